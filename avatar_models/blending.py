"""A basis of features blended by a condition, and the optimiser that suits it: HeadGaS equation 3, f = F^T e.

F (E, M) holds nearly all numbers of an avatar. Ordinary autograd writes its gradient down, an outer product as large as F,
for Adam to read it once; :class:`RankOneAdam` keeps the two factors instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatar_models.kernels import blending as kernels
from avatar_models.kernels.arena import empty
from avatar_models.kernels.threads import run

Blend = Callable[[Tensor, Tensor], Tensor]
"""e (E,), F (E, M) -> f (M,)."""


def blend(e: Tensor, F: Tensor) -> Tensor:
    """f (M,) = sum_k e_k F_k, with autograd's gradients."""
    return e @ F


def steady_blend(e: Tensor, F: Tensor) -> Tensor:
    """f (M,) = sum_k e_k F_k, of tensors without gradients; on a CPU the same bits for any number of threads."""
    if F.is_cuda:
        return e @ F
    f = empty(F.shape[1])
    _run(kernels.blend, F, e.contiguous().numpy(), F.numpy(), f)
    return torch.from_numpy(f)


class RankOneAdam:
    """Adam (Kingma and Ba 2015) for one basis F (E, M) that is blended through :meth:`blend`, with AdamW's weight decay.

    On a CPU a step costs what it takes to read and write F and its two moments once, and a blend that was announced to
    the step before it costs nothing more.
    """

    def __init__(
        self, F: Tensor, rate: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15, decay: float = 0.0
    ) -> None:
        self.F, self.rate, self.betas, self.eps, self.decay = F, rate, betas, eps, decay
        self.m, self.v = torch.zeros_like(F), torch.zeros_like(F)
        self.steps = 0
        self._factors: list[tuple[Tensor, Tensor]] = []  # (e, v_f) of each blend since the last step
        self._ahead: tuple[Tensor, Tensor, int] | None = None  # the announced (e, f), and the version of F that f is of

    def blend(self, e: Tensor, F: Tensor) -> Tensor:
        """f (M,) of the optimiser's own F, whose gradient goes to the next :meth:`step`. F.grad stays None."""
        if F is not self.F:
            raise ValueError("this optimiser blends its own basis only")
        if e.shape != F.shape[:1]:
            raise ValueError(f"e must be ({len(F)},) for a basis of {tuple(F.shape)}, is {tuple(e.shape)}")
        known, self._ahead = self._ahead, None
        fits = known is not None and known[2] == F._version and torch.equal(known[0], e.detach())
        f = known[1] if known is not None and fits else None
        return _Blend.apply(e, F, self._factors, f)  # type: ignore[no-any-return]

    @torch.no_grad()
    def step(self, ahead: Tensor | None = None) -> None:
        """One update from all blends that backward has passed through since the last one.

        `ahead` (E,) is the condition that will be blended next, where it is known: both are done in one pass over F.
        """
        self._ahead = None
        if ahead is not None and ahead.shape != self.F.shape[:1]:
            raise ValueError(f"ahead must be ({len(self.F)},), is {tuple(ahead.shape)}")
        if not self._factors:
            return
        e, v_f = (torch.stack(factors) for factors in zip(*self._factors, strict=True))
        self._factors.clear()
        self.steps += 1
        (b1, b2), t = self.betas, self.steps
        if self.F.is_cuda:
            g = e.T @ v_f
            self.m.lerp_(g, 1 - b1)
            self.v.mul_(b2).addcmul_(g, g, value=1 - b2)
            self.F.mul_(1 - self.rate * self.decay)
            self.F.addcdiv_(self.m, (self.v / (1 - b2**t)).sqrt_().add_(self.eps), value=-self.rate / (1 - b1**t))
            return
        state = (self.F.detach().numpy(), self.m.numpy(), self.v.numpy())
        options = (self.rate, b1, b2, self.eps, 1 - b1**t, 1 - b2**t, 1 - self.rate * self.decay)
        ahead = torch.empty(0) if ahead is None else ahead.detach().clone()
        f = empty(self.F.shape[1] if len(ahead) else 0)
        torch.autograd.graph.increment_version(self.F)  # numpy changes it behind autograd's back
        _run(kernels.adam, self.F, *state, e.numpy(), v_f.numpy(), ahead.numpy(), f, *options, scratch=kernels.BLOCK)
        if len(ahead):
            self._ahead = ahead, torch.from_numpy(f), self.F._version

    def replace(self, F: Tensor, m: Tensor, v: Tensor) -> None:
        """Goes on with another basis and the moments that belong to it, all (E, M)."""
        self.F, self.m, self.v = F, m.contiguous(), v.contiguous()
        self._factors.clear()
        self._ahead = None

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside F."""
        return {"steps": self.steps, "m": self.m, "v": self.v}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.m.copy_(state["m"])
        self.v.copy_(state["v"])
        self._factors.clear()
        self._ahead = None


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: Tensor, F: Tensor, factors: list[tuple[Tensor, Tensor]], known: Tensor | None) -> Tensor:
        ctx.factors = factors
        ctx.save_for_backward(e, F if ctx.needs_input_grad[0] else None)
        if known is not None:
            return known
        return steady_blend(e.detach(), F.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_f: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        e, F = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.factors.append((e.detach(), v_f.contiguous()))
        return (F.detach() @ v_f if ctx.needs_input_grad[0] else None), None, None, None


def _run(kernel: Any, F: Tensor, *arguments: Any, scratch: int | None = None) -> None:
    blocks = -(-F.shape[1] // kernels.BLOCK)
    run(kernel, blocks, torch.get_num_threads(), *arguments, scratch=scratch)
