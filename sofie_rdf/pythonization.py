"""``df.DefineModel``, a method of every RDataFrame: ``import sofie_rdf.pythonization``, no more.

    import sofie_rdf.pythonization

    df = ROOT.RDataFrame("sig_tree", file).DefineModel("dnn", model, ["m_jj", "m_jjj", ...])
    df = df.Filter("dnn > 0.5").DefineModel({"p_b": "softmax[label_b]"}, tagger)

It is `sofie_rdf.define` with the data frame in front, for all nodes of a graph (also those that
were there before the import) and for distributed ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sofie_rdf import arguments
from sofie_rdf.defining import define
from sofie_rdf.errors import InputError
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile.interpreter import import_root
from sofie_rdf.runtime.rdataframe.columns import Columns
from sofie_rdf.runtime.rdataframe.options import DEFAULTS, DefineOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DefineModel"]


@arguments.with_options(DefineOptions, DEFAULTS)
def DefineModel(
    df: Any,
    column: str | Mapping[str, str],
    model: Model,
    columns: Columns = None,
    **options: Unpack[DefineOptions],
) -> Any:
    """The data frame with the model's score as a new column; see `sofie_rdf.define`."""
    if not isinstance(model, Model):
        raise InputError(
            f"DefineModel takes a model of sofie_rdf, not {type(model).__name__}",
            remedy="df.DefineModel('dnn', sofie_rdf.load(file), columns)",
        )
    return define(df, column, model, columns, **options)


def _nodes() -> Iterator[Any]:
    """The classes of data frames."""
    # All nodes derive from it, whatever template they are of.
    yield import_root().RDF.RInterfaceBase
    try:
        yield import_module("ROOT._distrdf.Proxy").NodeProxy
        yield import_module("ROOT._distrdf.DataFrame").RDataFrame
    except (ImportError, AttributeError):
        return  # This ROOT has no distributed ones.


for _class in _nodes():
    _class.DefineModel = DefineModel
