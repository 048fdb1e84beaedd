"""The parts of ``class2d``: settings, inputs, results, selection of classes."""
