"""What a run needs, asked for one by one: for bin/doctor, and before the first job is paid for."""
