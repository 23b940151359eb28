"""Sources and artifacts: a local directory or an S3-compatible bucket, through obstore."""
