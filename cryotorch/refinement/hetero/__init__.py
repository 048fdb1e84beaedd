"""Several maps of one particle list: classes that compete for images, their half maps, and whether the images ask for them. It opens no file."""
