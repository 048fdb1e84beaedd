"""The contrast transfer function, higher-order aberrations, and fits of both."""
