"""Schedulers under the module paths of TorchX."""
