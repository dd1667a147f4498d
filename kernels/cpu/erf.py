"""erf as an LLVM intrinsic, generic over float32 and float64, that the loop vectoriser can widen.

erf(x) = 2/sqrt(pi) times the integral of e^(-s^2) from 0 to x; odd, so only t = |x| is approximated:

  t < 1    erf t = t + t p(t^2)              p: what erf(t)/t is above 1
  t >= 1   erf t = 1 - e^(-t^2) q(t - 2)     q: e^(t^2) (1 - erf t), the scaled complement, which is flat where erfc is not

p and q are minimax polynomials for the error in erf itself (Remez exchange with the weights 1/erf and e^(-t^2)/erf, in 60
digits): relative error below 3e-9 in float32 and 2e-17 in float64. The weight is what keeps q short: where e^(-t^2) is
small, q may be coarse. q was fitted up to `last`, where erf is 1 to the last bit; beyond, its argument stays there. The
two ranges are those of Cody (1969, Rational Chebyshev approximations for the error function, Math. Comp. 23), with
polynomials instead of his quotients, because a division costs more than a few multiplications.

Both branches are computed and one is selected: vector lanes cannot branch. In a loop that needs e^(-x^2) as well, LLVM
shares it. NaN gives NaN, plus and minus infinity give 1 and -1.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .exp import exp_of_vector
from .jit import intrinsic


@dataclass(frozen=True)
class _Constants:
    """What erf needs to know about one floating-point format."""

    suffix: str  # of LLVM's functions
    last: float  # from here on erf is 1
    p: tuple[float, ...]  # highest power first
    q: tuple[float, ...]


_FLOAT32 = _Constants(
    "f32", 4.0,
    (7.8538498284294088513e-5, -8.0102026992725067869e-4, 5.1883304825924878339e-3, -2.6853814582072517433e-2,
     0.11283585248605634751, -0.37612625837465104191, 0.12837916572955936822),
    (1.0818112298065846085e-4, -2.0055661009608787214e-4, 5.017807499753960791e-4, -1.8604737428585256488e-3,
     5.4752984484290162111e-3, -1.544201031450229148e-2, 4.1801858374686031795e-2, -0.10679781856983514354,
     0.25539559244786473506),
)  # fmt: skip
_FLOAT64 = _Constants(
    "f64", 6.0,
    (-7.7794629717615968919e-10, 1.3710988704190523118e-8, -1.6206318752969209004e-7, 1.6447132699786621009e-6,
     -1.4924712439534814108e-5, 1.2055293586936949976e-4, -8.5483259297662442975e-4, 5.2239776061308421667e-3,
     -2.6866170643113413715e-2, 0.11283791670944200308, -0.37612638903183520025, 0.12837916709551256568),
    (1.1868609113023346513e-12, -1.5943760753938092318e-11, 9.6039637390588208618e-11, -3.8708545174070004025e-10,
     1.4415496892891437771e-9, -5.7713608681765402916e-9, 2.3307691384970054514e-8, -9.0897389206993006596e-8,
     3.449194760784097709e-7, -1.2793719892336563682e-6, 4.6281257353734948929e-6, -1.6293809359948481571e-5,
     5.5728331365109399364e-5, -1.8477833522665194652e-4, 5.9246999441452736136e-4, -1.8316642814906630378e-3,
     5.4407385370441550042e-3, -1.5460637763883748634e-2, 4.1802752603573378441e-2, -0.10679646185349599939,
     0.25539567631050525341),
)  # fmt: skip
# As in exp: the flag is on each instruction, so that a caller's `reassoc` does not reach them.
_FLAGS = ("contract",)


@intrinsic
def erf(typingctx: Any, x: Any) -> Any:
    """erf(x), within 1.2 ulp in either format."""
    if x not in (types.float32, types.float64):
        return None
    c = _FLOAT32 if x == types.float32 else _FLOAT64
    kind: Any = ir.FloatType() if x == types.float32 else ir.DoubleType()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def number(value: float) -> Any:
            return ir.Constant(kind, value)

        def call(name: str, *values: Any) -> Any:
            function_type = ir.FunctionType(kind, [kind] * len(values))
            function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{c.suffix}")
            return builder.call(function, values)

        def polynomial(coefficients: tuple[float, ...], v: Any) -> Any:
            total = number(coefficients[0])
            for coefficient in coefficients[1:]:
                total = call("fmuladd", total, v, number(coefficient))
            return total

        (value,) = arguments
        t = call("fabs", value)
        square = builder.fmul(t, t, flags=_FLAGS)
        near = call("fmuladd", t, polynomial(c.p, square), t)
        beyond = builder.fcmp_ordered(">", t, number(c.last), flags=_FLAGS)  # false for NaN, which stays
        place = builder.fsub(builder.select(beyond, number(c.last), t), number(2.0), flags=_FLAGS)
        bell = exp_of_vector(builder, x, 1, builder.fmul(square, number(-1.0), flags=_FLAGS))
        far = builder.fsub(number(1.0), builder.fmul(bell, polynomial(c.q, place), flags=_FLAGS), flags=_FLAGS)
        is_near = builder.fcmp_ordered("<", t, number(1.0), flags=_FLAGS)
        return call("copysign", builder.select(is_near, near, far), value)

    return x(x), generate
