"""The HTTP routes. They parse and authorize requests and build responses, but contain no SQL and open no files."""
