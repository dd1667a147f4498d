"""exp, log and tanh as LLVM intrinsics, generic over float32 and float64, that the loop vectoriser can widen.

Numba has no vector mathematics library any more: `math.exp` in a loop is a scalar call of about 5 ns an element; this
is 0.3.

  x = n ln 2 + r, |r| <= ln(2)/2         n = round(x / ln 2), r by subtracting n ln 2 in two parts (Cody and Waite)
  e^r = 1 + r + r^2 q(r)                 q: minimax polynomial (Remez), relative error 8e-9 (float32), 1e-17 (float64)
  e^x = 2^n e^r                          n is added to the exponent bits of e^r

n is rounded by adding 1.5 * 2^(mantissa bits): the sum's low bits are n as an integer. That needs no conversion to a
64-bit integer, which AVX2 does not have. NaN gives NaN, -inf gives 0, +inf gives inf; results below the smallest
normal number are 0.

The instructions carry the flag `contract` themselves, because Numba puts the caller's flags on those that have none,
and `reassoc` would cancel the rounding constant. `fmuladd` is fused where the machine can, two instructions where it
cannot.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic


@dataclass(frozen=True)
class _Constants:
    """What exp needs to know about one floating-point format."""

    bits: int  # of the whole number
    mantissa: int  # bits stored
    low: float  # below this e^x is less than the smallest normal number
    high: float  # above this e^x overflows
    ln2_high: float  # few bits, so that n * ln2_high is exact
    ln2_low: float
    q: tuple[float, ...]  # highest power first


_FLOAT32 = _Constants(
    32, 23, -87.3365, 88.72283, 0.693359375, -2.12194440e-4,
    (0.0013926213466332443, 0.00836320297157585495, 0.0416665544376859389, 0.166665768459939763, 0.5),
)  # fmt: skip
_FLOAT64 = _Constants(
    64, 52, -708.396, 709.782712893384, 6.93145751953125e-1, 1.42860682030941723212e-6,
    (2.51004241570050668e-8, 2.76201387197339956e-7, 2.75572683786841929e-6, 2.48015211902177277e-5,
     1.98412698631059687e-4, 1.38888889172817933e-3, 8.33333333333005135e-3, 4.16666666666239915e-2,
     1.66666666666666675e-1, 0.5),
)  # fmt: skip
_FLAGS = ("contract",)


class _Emit:
    """Writes floating-point instructions of one format, scalar (lanes 1) or on vectors."""

    def __init__(self, builder: Any, numba_type: Any, lanes: int = 1) -> None:
        self.c = _FLOAT32 if numba_type == types.float32 else _FLOAT64
        self.lanes, self.builder = lanes, builder
        self.float: Any = ir.FloatType() if numba_type == types.float32 else ir.DoubleType()
        self.integer: Any = ir.IntType(self.c.bits)
        self.suffix = f"f{self.c.bits}"
        if lanes > 1:
            self.float, self.integer = ir.VectorType(self.float, lanes), ir.VectorType(self.integer, lanes)
            self.suffix = f"v{lanes}{self.suffix}"

    def number(self, value: float) -> Any:
        return ir.Constant(self.float, value if self.lanes == 1 else [value] * self.lanes)

    def bits(self, value: int) -> Any:
        return ir.Constant(self.integer, value if self.lanes == 1 else [value] * self.lanes)

    def call(self, name: str, *arguments: Any) -> Any:
        signature = ir.FunctionType(self.float, [self.float] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}.{self.suffix}")
        return self.builder.call(function, arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call("fmuladd", a, b, c)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FLAGS)

    def subtract(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b, flags=_FLAGS)

    def multiply(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FLAGS)

    def split(self, x: Any) -> tuple[Any, Any, Any]:
        """(n as the low bits of an integer, r, r^2 q(r))"""
        magic = self.number(1.5 * 2.0**self.c.mantissa)
        shifted = self.fma(x, self.number(1.4426950408889634), magic)
        n = self.subtract(shifted, magic)
        r = self.fma(n, self.number(-self.c.ln2_high), x)
        r = self.fma(n, self.number(-self.c.ln2_low), r)
        q = self.number(self.c.q[0])
        for coefficient in self.c.q[1:]:
            q = self.fma(q, r, self.number(coefficient))
        return self.builder.bitcast(shifted, self.integer), r, self.multiply(self.multiply(r, r), q)

    def scale(self, value: Any, n: Any) -> Any:
        """value * 2^n for normal numbers: n goes into the exponent bits."""
        bits = self.builder.add(
            self.builder.bitcast(value, self.integer),
            self.builder.shl(n, self.bits(self.c.mantissa)),
        )
        return self.builder.bitcast(bits, self.float)

    def exp(self, x: Any) -> Any:
        n, r, tail = self.split(x)
        result = self.scale(self.add(self.number(1.0), self.add(r, tail)), n)
        # Ordered <= is false for NaN, which therefore takes the product with inf and stays NaN.
        in_range = self.builder.fcmp_ordered("<=", x, self.number(self.c.high), flags=_FLAGS)
        result = self.builder.select(in_range, result, self.multiply(x, self.number(float("inf"))))
        below = self.builder.fcmp_ordered("<", x, self.number(self.c.low), flags=_FLAGS)
        return self.builder.select(below, self.number(0.0), result)


def exp_of_vector(builder: Any, numba_type: Any, lanes: int, vector: Any) -> Any:
    """e^x of a vector register, for the intrinsics in `tile`."""
    return _Emit(builder, numba_type, lanes).exp(vector)


@intrinsic
def exp(typingctx: Any, x: Any) -> Any:
    """e^x, within 1.5 ulp in either format."""
    if x not in (types.float32, types.float64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _Emit(builder, x).exp(arguments[0])

    return x(x), generate


@intrinsic
def tanh(typingctx: Any, x: Any) -> Any:
    """tanh |x| = -m / (2 + m) with m = e^(-2|x|) - 1 = 2^n (r + r^2 q) + (2^n - 1); no cancellation near 0. Within
    3.5 ulp.
    """
    if x not in (types.float32, types.float64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emit(builder, x)
        (value,) = arguments
        absolute = emit.call("fabs", value)
        argument = emit.multiply(absolute, emit.number(-2.0))
        floor = emit.number(-60.0)  # there m is -1 to the last bit; ordered <, so NaN stays
        argument = builder.select(builder.fcmp_ordered("<", argument, floor, flags=_FLAGS), floor, argument)
        n, r, tail = emit.split(argument)
        power = emit.scale(emit.number(1.0), n)
        m = emit.fma(power, emit.add(r, tail), emit.subtract(power, emit.number(1.0)))
        quotient = builder.fdiv(m, emit.add(m, emit.number(2.0)), flags=_FLAGS)  # -tanh |x|
        magnitude = emit.multiply(quotient, emit.number(-1.0))
        return emit.call("copysign", magnitude, value)

    return x(x), generate


_LOG: dict[int, tuple[float, ...]] = {  # R(z) / z, highest power first: minimax (Remez, 60 digits) for the error in log
    32: (0.2987172843545675752, 0.3997754154869735266, 0.6666677638189620592),  # 8e-10, relative to log; in float64 1.2e-18
    64: (0.1479595198231083405, 0.1531405028090177874, 0.1818356433860819462, 0.2222219857290578277, 0.2857142874239067485,
         0.3999999999941466423, 0.6666666666666734414),
}  # fmt: skip
_SQRT_HALF = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}  # its bits


@intrinsic
def log(typingctx: Any, x: Any) -> Any:
    """log x, within 1.5 ulp, for normal numbers, 0, inf and NaN; NaN below 0. Straight-line code, as exp is.

    x = 2^n (1 + f) with 1 + f from sqrt(1/2) to sqrt(2): n and f come from the bits. With s = f / (2 + f),
    log(1 + f) = 2 artanh s = f - (f^2/2 - s (f^2/2 + R(s^2))).
    """
    if x not in (types.float32, types.float64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emit(builder, x)
        (value,) = arguments
        c, bits = emit.c, builder.bitcast(value, emit.integer)
        n = builder.ashr(builder.sub(bits, emit.bits(_SQRT_HALF[c.bits])), emit.bits(c.mantissa))
        m = builder.bitcast(builder.sub(bits, builder.shl(n, emit.bits(c.mantissa))), emit.float)
        magic = emit.number(1.5 * 2.0**c.mantissa)  # AVX2 has no conversion of 64-bit integers
        n = builder.bitcast(builder.add(n, builder.bitcast(magic, emit.integer)), emit.float)
        n, f = emit.subtract(n, magic), emit.subtract(m, emit.number(1.0))
        s = builder.fdiv(f, emit.add(f, emit.number(2.0)), flags=_FLAGS)
        z, half = emit.multiply(s, s), emit.multiply(emit.multiply(f, f), emit.number(0.5))
        r = emit.number(_LOG[c.bits][0])
        for coefficient in _LOG[c.bits][1:]:
            r = emit.fma(r, z, emit.number(coefficient))
        tail = emit.multiply(s, emit.fma(z, r, half))
        tail = emit.fma(n, emit.number(c.ln2_low), tail)
        result = emit.fma(n, emit.number(c.ln2_high), emit.subtract(f, emit.subtract(half, tail)))
        zero, infinite = emit.number(0.0), emit.number(float("inf"))
        result = builder.select(builder.fcmp_ordered(">", value, zero, flags=_FLAGS), result, emit.number(float("nan")))
        result = builder.select(
            builder.fcmp_ordered("==", value, zero, flags=_FLAGS), emit.number(-float("inf")), result
        )
        return builder.select(builder.fcmp_ordered("==", value, infinite, flags=_FLAGS), value, result)

    return x(x), generate
