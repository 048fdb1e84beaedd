"""What maps hold: FSC, significance and claims, cones, local resolution and filters, sharpening."""
