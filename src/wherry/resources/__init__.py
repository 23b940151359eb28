"""What a record is: one file a resource, one registry."""
