"""The faces that TorchX users know, under TorchX's module paths."""
