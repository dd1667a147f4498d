// gelu_erf 01, vector loads: a thread takes four numbers as one float4; y = x Phi(x), dx = dy (Phi(x) + x phi(x)).
//
// Phi(x) = erfc(-x / sqrt 2) / 2 is the probability that a normal variable is below x, phi(x) = e^(-x^2 / 2) / sqrt(2 pi) its
// density; erfc loses no digits where Phi is small. Beyond |x| = 30 the density is 0, and x is clamped there before both are
// multiplied: no inf * 0. NaN goes through: a comparison with it is false. The last n % 4 numbers are read and written one by one.

constexpr float ONE_OVER_ROOT_2 = 0.7071067811865476f, ONE_OVER_ROOT_2PI = 0.3989422804014327f;

__device__ float below(float x) { return 0.5f * erfcf(-ONE_OVER_ROOT_2 * x); }
__device__ float value(float x) { return x * below(x); }
__device__ float slope(float x) {
  const float v = x > 30.0f ? 30.0f : x < -30.0f ? -30.0f : x;
  return below(v) + v * (ONE_OVER_ROOT_2PI * expf(-0.5f * v * v));
}

extern "C" __global__ void gelu_erf_forward_01_vector_loads(float* y, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(value(v.x), value(v.y), value(v.z), value(v.w));
    return;
  }
  for (int j = i; j < n; j++) y[j] = value(x[j]);
}

extern "C" __global__ void gelu_erf_vjp_01_vector_loads(float* dx, const float* dy, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i), d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dx + i) = make_float4(d.x * slope(v.x), d.y * slope(v.y), d.z * slope(v.z), d.w * slope(v.w));
    return;
  }
  for (int j = i; j < n; j++) dx[j] = dy[j] * slope(x[j]);
}
