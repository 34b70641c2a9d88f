"""What only Google Cloud needs: files, tables, and jobs, each through Google's own client."""
