"""`.mv2` files: frames as one searchable capsule, written and searched in processes of their own."""
