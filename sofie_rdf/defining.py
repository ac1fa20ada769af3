"""A model as columns of a data frame: `define` and `SofieFunctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sofie_rdf import arguments
from sofie_rdf.pickling import Portable
from sofie_rdf.runtime.rdataframe.options import DEFAULTS, DefineOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sofie_rdf.model import Model
    from sofie_rdf.runtime.rdataframe.define import Columns

__all__ = ["SofieFunctor", "define"]


@arguments.with_options(DefineOptions, DEFAULTS)
def define(
    df: Any,
    column: str | Mapping[str, str],
    model: Model,
    columns: Columns = None,
    **options: Unpack[DefineOptions],
) -> Any:
    """The data frame with the model's score as a new column, in all slots and on all threads.

    ``columns`` are the features in the model's order, or a mapping from each input to its own:
    names of columns with numbers of any arithmetic type or RVecs, vectors and arrays of them,
    expressions of columns, and numbers, which are the same for all events. Where the model knows
    the names of its features (`Model.features`), columns of these names may stand in any order, a
    mapping may go by feature (``{"pt": "Jet_pt"}``, of all inputs), and without ``columns`` the
    data frame has columns of these names. ``per`` says what they are, where that does not follow
    from their types:

    * ``"event"``: numbers, which make one row. The new column is a number, or an RVec.
    * ``"object"``: RVecs of one length, with numbers for all objects among them. The model runs on
      all objects of an event at once; the new column is an RVec with a number for each.
    * ``"set"``: RVecs, which make one row with an axis of objects, wherever the input has it. If
      that axis is open, there are as many objects as the event has; ``lengths={"n_pf": (24, 128)}``
      bounds them, or fixes them. If it is not, ``pad`` is what stands for those that an event lacks
      (of each input, as a mapping, and of each feature, as a list), and ``truncate=True`` leaves
      out others. The inputs in ``mask`` get 1 for each object and 0 for padding;
      ``{"mask": "input"}`` says of which input.
      ``order_by`` is a column by which objects are sorted, the largest first. A model with weaver's
      normalisation knows its lengths, pads and masks itself (`Model.normalized`).

    ``output`` is one of several outputs, ``"name[2]"`` one of its numbers, ``"name[label]"`` or
    ``"label"`` that of a class (`Model.labels`), ``"argmax(name)"`` the index of the largest;
    ``column`` may be a mapping from several new columns to such texts, and the model runs once.
    Where the expression ``where`` is not true the model does not run, and the new columns are
    ``default`` (RVecs of objects are empty). ``nan`` is what becomes of NaN in a column:
    ``"propagate"``, ``"error"``, or another number. With ``redefine=True`` the new columns take the
    place of columns that are there, which the model may read.

    ``batch=64`` has the model run for so many rows at once, which is faster where its weights do
    not fit into the first cache. For that an event loop is run now, over the events that the data
    frame lets through; it keeps what the model gives (and 60 bytes) for each different input. The
    column looks up what belongs to its inputs, else the model runs for the event: the numbers are
    the same to the last bit.

    Random numbers are those of ``seed``, or of `Model.seed`, and of the event, whose number is
    ROOT's rdfentry_, or what ``entry`` says: a column of whole numbers that tells events apart, or
    an expression, as ``"event"``. That is needed for TTrees on several threads and for files in a
    cluster, of which ROOT numbers the entries in another order each time. All variations of an
    event (`Vary`) have the same random numbers; with ``per="object"`` each object has its own.

    ``uncertainty`` is the covariance C of the features of an event: a matrix in the model's order,
    or columns by feature, ``{"pt": "pt_error", ("pt", "eta"): "pt_eta_covariance"}``, which are
    standard deviations of features and covariances of two; what is not named is 0. Beside each new
    column there is another one, ``dnn_uncertainty``, that is sqrt(J C J^T) with the derivatives J
    of the column by the features.

    Raises `ColumnError` before the event loop for whatever can be known then; the loop ends with
    the entry and the columns where the lengths of RVecs do not fit.
    """
    from sofie_rdf.runtime.rdataframe import define as dataframe
    from sofie_rdf.uncertainty import with_uncertainty

    way = "define(df, column, model, columns), or model.define(df, column, columns)"
    arguments.require_model(way, model, Portable, df, column, columns)
    arguments.require_data_frame(way, df, column, columns)
    arguments.require_new_column(column)
    arguments.require_columns("define", columns)
    told: DefineOptions = {**DEFAULTS, **options}
    seed = told["seed"]
    if told["uncertainty"] is not None:
        made = with_uncertainty(model, column, told["output"], columns, told["uncertainty"])
        model, column, columns = made.model, made.column, made.columns
        told["output"] = ""
    return dataframe.define(
        df,
        column,
        model.compiled,
        columns,
        options=told,
        parcel=partial(getattr, model, "parcel"),
        seed=(model if seed is None else model.with_seed(seed)).seed,
    )


@arguments.checked
def SofieFunctor(
    model: Model,
    nslots: int,
    *,
    output: str = "",
    types: Sequence[str] = (),
    name: str = "",
    seed: int | None = None,
) -> Any:
    """The C++ function object for ``df.DefineSlot(column, SofieFunctor(model, nslots), columns)``.

    ``nslots`` is ``df.GetNSlots()``. Its arguments have the model's element type; ``types`` names
    the C++ types of the columns where they are others. One functor belongs to one data frame.

    With a ``name`` it is a variable in C++, for as long as the process runs, and expressions call
    it with ROOT's number of the slot: ``df.Define("y", "name(rdfslot_, m_jj, m_jjj / 2)")``.

    A model with random numbers (of ``seed``, or of `Model.seed`) takes the number of the event
    behind that of the slot: ``df.DefineSlotEntry(column, functor, columns)``, or
    ``"name(rdfslot_, rdfentry_, m_jj, m_jjj / 2)"``. On threads these are no numbers of a TTree's.
    """
    from sofie_rdf.runtime.rdataframe import define as dataframe

    arguments.require_model("SofieFunctor(model, nslots)", model, Portable, nslots)
    return dataframe.make_functor(
        model.compiled,
        nslots,
        output=output,
        types=types,
        name=name,
        seed=(model if seed is None else model.with_seed(seed)).seed,
    )
