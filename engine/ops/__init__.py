"""One thin function an operation: it validates at the door and calls `apply` with the row."""

from . import (
    activations,
    contraction,
    elementary,
    elementwise,
    inspection,
    losses,
    manipulation,
    products,
    recurrent,
    reductions,
    searching,
    shape,
    transformer,
)
from .activations import *
from .contraction import *
from .elementary import *
from .elementwise import *
from .inspection import *
from .losses import *
from .manipulation import *
from .namespace import NUMPY, Namespace
from .products import *
from .recurrent import *
from .reductions import *
from .searching import *
from .shape import *
from .transformer import *

__all__ = []
__all__ += activations.__all__
__all__ += contraction.__all__
__all__ += elementary.__all__
__all__ += elementwise.__all__
__all__ += losses.__all__
__all__ += products.__all__
__all__ += recurrent.__all__
__all__ += reductions.__all__
__all__ += shape.__all__
__all__ += inspection.__all__
__all__ += manipulation.__all__
__all__ += searching.__all__
__all__ += transformer.__all__
