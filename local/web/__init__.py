"""HTTP servers, WSGI, and the viewer's site."""
