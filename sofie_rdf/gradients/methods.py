"""The methods of a model that give its derivatives as models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sofie_rdf.arguments import checked
from sofie_rdf.errors import ModelError, UnsupportedOperator
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import PRECISIONS

if TYPE_CHECKING:
    from typing_extensions import Self

    from sofie_rdf.gradients.derived import Cotangents, Names

__all__ = ["Differentiable"]


class Differentiable:
    """A model with a graph, of which others can be made."""

    graph: Any
    name: Any
    precision: Any
    _changed: Any
    # The node before an output in which events may meet, if there is one.
    _meeting: Any
    # The same function in a form of which derivatives are cheap.
    _layered: Any
    # For derivatives, how weights of what was differentiated become inputs.
    _again: Any = None

    @checked
    def gradient(self, of: Names = None, wrt: Names = None, *, vjp: Cotangents = False) -> Self:
        """The model that gives ``d_score/d_features`` besides its outputs.

        The gradient has the input's shape. ``of`` are outputs and ``wrt`` inputs by name, one or a
        list; by default all floating-point ones. Each row has its own gradient; where rows meet,
        such as in a softmax over the batch, there is none. ``vjp=True`` is for these, and for
        outputs of several numbers: the sum of v_score * score over all rows is differentiated, and
        ``v_score`` (or the name that is given, or by output as a mapping) is one more input. At
        kinks it is what torch gives. Raises `ModelError`; `UnsupportedOperator` for a node without
        derivative.
        """
        from sofie_rdf.gradients import derived

        return self._differentiated(of, wrt, partial(derived.gradient, vjp=vjp))

    @checked
    def jacobian(self, of: Names = None, wrt: Names = None) -> Self:
        """The model that gives the derivatives of each element of its outputs.

        They stand besides its outputs. ``d_probabilities/d_features`` is [N, 3, 7], and costs 3
        gradients. Arguments and errors are those of `gradient`.
        """
        from sofie_rdf.gradients import derived

        return self._differentiated(of, wrt, derived.jacobian)

    @checked
    def hessian(self, of: Names = None, wrt: Names = None) -> Self:
        """The model that gives gradients and ``d2_score/d_features/d_features``.

        These second derivatives are [N, 7, 7] for features [N, 7]. Arguments and errors are those
        of `gradient`.
        """
        from sofie_rdf.gradients import derived

        return self._differentiated(of, wrt, derived.hessian)

    @checked
    def parametrised(self, names: str | Sequence[str]) -> Self:
        """The model in which these initializers are further inputs.

        They stand behind the inputs that it has. Outputs can be differentiated by them. Derivatives
        are those by the inputs before, of the network with the new ones. Raises `ModelError` for
        what is no initializer, and for derivatives that were stored or changed.
        """
        from sofie_rdf.gradients import derived

        if self._again is not None:
            again: Self = self._again([names] if isinstance(names, str) else names)
            return again
        return self._derived(lambda: derived.parametrised(self.graph, names))

    def _differentiated(self, of: Names, wrt: Names, change: Callable[..., Graph]) -> Self:
        """The derivatives, which know of which model they are."""
        made = self._derived(
            lambda: self._best(lambda graph: change(graph, of, wrt, meeting=self._meeting))
        )
        made._again = lambda names: self._with_parameters(made, of, wrt, change, names)
        return made

    def _with_parameters(
        self, made: Self, of: Names, wrt: Names, change: Callable[..., Graph], names: Sequence[str]
    ) -> Self:
        """The same derivatives of the model with these parameters, which are the last inputs."""
        from sofie_rdf.gradients import derived

        wide = self.parametrised(names)
        # Those by its parameters are not asked for.
        found = wide._differentiated(*derived.chosen(self.graph, of, wrt), change)
        inputs = (*made.graph.inputs, *wide.graph.inputs[len(self.graph.inputs) :])
        ordered = found._derived(lambda: derived.with_inputs(found.graph, inputs))
        ordered._again = lambda more: self._with_parameters(made, of, wrt, change, [*names, *more])
        return ordered

    def _best(self, change: Callable[[Graph], Graph]) -> Graph:
        """What is made of the layers, or of the graph as it is where these have no derivative."""
        try:
            return change(self._layered(self.graph))
        except UnsupportedOperator:
            return change(self.graph)

    def _derived(self, change: Callable[[], Graph]) -> Self:
        if self.precision != PRECISIONS[0]:
            raise ModelError(
                f"has its weights in {self.precision}, which cannot be differentiated",
                place=self.name,
                remedy="First take the gradient, then .with_precision(...)",
            )
        changed: Self = self._changed(change)
        return changed
