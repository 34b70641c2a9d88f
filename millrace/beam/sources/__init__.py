"""Where records come from: files, HTTP, archives."""
