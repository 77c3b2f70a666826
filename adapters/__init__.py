"""fbwrap.adapters: what fbwrap knows about the GAN repositories that people have.

Examples:
    >>> import fbwrap
    >>> [adapter.name for adapter in fbwrap.adapters.adapters()][:2]
    ['audio', 'biggan']

One small file of data per family, each a plugin under the entry-point group ``fbwrap.adapters`` as anybody's
(the list is in ``setup.cfg``). CONTRIBUTING shows how to add one. None imports the package it recognises.
"""

from fbwrap.recognition.plugins import adapters, broken

__all__ = ["adapters", "broken"]
