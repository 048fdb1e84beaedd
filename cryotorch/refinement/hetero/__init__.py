"""Classes in 3D, with poses that are known or searched; it opens no file."""
