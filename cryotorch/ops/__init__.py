"""The mathematics: tensors in, tensors out, on any device. Imports torch and nothing else of ours."""
