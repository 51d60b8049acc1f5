"""The HTTP service: endpoints, errors, who may ask, and the limits of its connections."""
