# The frozen multi-exit backbone: which one, how it is trained and quantised, and its integer reference.
# PyTorch is loaded by train.py and deployed.py only, so that a host that merely runs a backbone starts quickly.

from .architectures import Architecture, architecture
from .backbone import ConvLayer, Exit, IntegerBackbone, PoolLayer

__all__ = ["Architecture", "ConvLayer", "Exit", "IntegerBackbone", "PoolLayer", "architecture"]
