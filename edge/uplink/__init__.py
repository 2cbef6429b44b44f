"""Who to the server."""
