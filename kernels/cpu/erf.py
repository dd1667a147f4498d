"""erf as an LLVM intrinsic, generic over float32 and float64, that the loop vectoriser can widen.

erf(x) = 2/sqrt(pi) times the integral of e^(-s^2) from 0 to x; odd, so only t = |x| is approximated.

float32, for speed: erf t = t p(t^2/8 - 1) up to t = 4, where erf is 1 to the last bit; beyond, t stays there. erf(t)/t is
an entire function of t^2, so one polynomial of degree 15 reaches 4e-8, and centred in the middle of the range its terms
hardly cancel: within 4 ulp, of which rounding is three. 16 multiply-adds in two chains and no exponential cost two
thirds of the two branches below. What was fitted ends 3e-7 above 1 at t = 4 (a bell of width 0.12 was added), and the
smaller of 1 and the product is taken: so erf is exactly 1 from there on, and never more.

float64, where one polynomial would need forty terms:

  t < 1    erf t = t + t p(t^2)              p: what erf(t)/t is above 1
  t >= 1   erf t = 1 - e^(-t^2) q(t - 2)     q: e^(t^2) (1 - erf t), the scaled complement, which is flat where erfc is not

p and q are minimax polynomials for the error in erf itself (float64: Remez exchange with the weights 1/erf and e^(-t^2)/erf,
in 60 digits, relative error below 2e-17; float32: Lawson's iteration on 6001 Chebyshev points with the weight t/erf). The
weight is what keeps q short: where e^(-t^2) is small, q may be coarse. q was fitted up to `last`, where erf is 1 to the
last bit; beyond, its argument stays there. The two ranges are those of Cody (1969, Rational Chebyshev approximations for
the error function, Math. Comp. 23), with polynomials instead of his quotients, because a division costs more than a few
multiplications. Both branches are computed and one is selected: vector lanes cannot branch. In a loop that needs
e^(-x^2) as well, LLVM shares it.

NaN gives NaN, plus and minus infinity give 1 and -1.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .exp import exp_of_vector
from .jit import intrinsic

# Highest powers first.
_LAST_FLOAT32, _LAST_FLOAT64 = 4.0, 6.0  # from here on erf is 1
_P_FLOAT32 = (
    -0.0012158880708739161, 0.0029579047113656998, -0.001653387676924467, 0.001850478001870215,
    -0.009243039414286613, 0.016990087926387787, -0.022286424413323402, 0.031809430569410324, -0.04576867073774338,
    0.06020372733473778, -0.07473678886890411, 0.09017006307840347, -0.10770905017852783, 0.13167692720890045,
    -0.17657628655433655, 0.35353097319602966,
)  # fmt: skip
_P_FLOAT64 = (
    -7.7794629717615968919e-10, 1.3710988704190523118e-8, -1.6206318752969209004e-7, 1.6447132699786621009e-6,
    -1.4924712439534814108e-5, 1.2055293586936949976e-4, -8.5483259297662442975e-4, 5.2239776061308421667e-3,
    -2.6866170643113413715e-2, 0.11283791670944200308, -0.37612638903183520025, 0.12837916709551256568,
)  # fmt: skip
_Q_FLOAT64 = (
    1.1868609113023346513e-12, -1.5943760753938092318e-11, 9.6039637390588208618e-11, -3.8708545174070004025e-10,
    1.4415496892891437771e-9, -5.7713608681765402916e-9, 2.3307691384970054514e-8, -9.0897389206993006596e-8,
    3.449194760784097709e-7, -1.2793719892336563682e-6, 4.6281257353734948929e-6, -1.6293809359948481571e-5,
    5.5728331365109399364e-5, -1.8477833522665194652e-4, 5.9246999441452736136e-4, -1.8316642814906630378e-3,
    5.4407385370441550042e-3, -1.5460637763883748634e-2, 4.1802752603573378441e-2, -0.10679646185349599939,
    0.25539567631050525341,
)  # fmt: skip
# As in exp: the flag is on each instruction, so that a caller's `reassoc` does not reach them.
_FLAGS = ("contract",)


@intrinsic
def erf(typingctx: Any, x: Any) -> Any:
    """erf(x), within 4 ulp in float32 and 1.2 ulp in float64."""
    if x not in (types.float32, types.float64):
        return None
    narrow = x == types.float32
    kind: Any = ir.FloatType() if narrow else ir.DoubleType()
    suffix = "f32" if narrow else "f64"

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def number(value: float) -> Any:
            return ir.Constant(kind, value)

        def call(name: str, *values: Any) -> Any:
            function_type = ir.FunctionType(kind, [kind] * len(values))
            function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
            return builder.call(function, values)

        def polynomial(coefficients: tuple[float, ...], v: Any) -> Any:
            total = number(coefficients[0])
            for coefficient in coefficients[1:]:
                total = call("fmuladd", total, v, number(coefficient))
            return total

        def polynomial_in_two(coefficients: tuple[float, ...], v: Any) -> Any:
            """Even and odd powers apart: half as long a chain of operations that wait for each other."""
            square = builder.fmul(v, v, flags=_FLAGS)
            return call("fmuladd", polynomial(coefficients[::2], square), v, polynomial(coefficients[1::2], square))

        def at_most(v: Any, limit: float) -> Any:  # ordered > is false for NaN, which stays
            return builder.select(builder.fcmp_ordered(">", v, number(limit), flags=_FLAGS), number(limit), v)

        (value,) = arguments
        t = call("fabs", value)
        if narrow:
            t = at_most(t, _LAST_FLOAT32)
            square = builder.fmul(t, t, flags=_FLAGS)
            place = call("fmuladd", square, number(2.0 / _LAST_FLOAT32**2), number(-1.0))
            result = at_most(builder.fmul(t, polynomial_in_two(_P_FLOAT32, place), flags=_FLAGS), 1.0)
        else:
            square = builder.fmul(t, t, flags=_FLAGS)
            near = call("fmuladd", t, polynomial(_P_FLOAT64, square), t)
            place = builder.fsub(at_most(t, _LAST_FLOAT64), number(2.0), flags=_FLAGS)
            bell = exp_of_vector(builder, x, 1, builder.fmul(square, number(-1.0), flags=_FLAGS))
            far = builder.fsub(
                number(1.0), builder.fmul(bell, polynomial(_Q_FLOAT64, place), flags=_FLAGS), flags=_FLAGS
            )
            is_near = builder.fcmp_ordered("<", t, number(1.0), flags=_FLAGS)
            result = builder.select(is_near, near, far)
        return call("copysign", result, value)

    return x(x), generate
