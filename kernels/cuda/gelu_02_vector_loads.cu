// gelu 02, vector loads: a thread takes four numbers as one float4, so a quarter of the memory instructions.
//
// The last n % 4 numbers are read and written one by one. The mathematics is rung 01's.

constexpr float SLOPE = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float CUBIC = 0.044715f;

__device__ float clamped(float x) { return x > 30.0f ? 30.0f : x < -30.0f ? -30.0f : x; }
__device__ float gate(float v) { return 1.0f / (1.0f + expf(-SLOPE * (v + CUBIC * v * v * v))); }
__device__ float value(float x) { return x * gate(clamped(x)); }
__device__ float slope(float x) {
  const float v = clamped(x), s = gate(v);
  return s + v * s * (1.0f - s) * SLOPE * (1.0f + 3.0f * CUBIC * v * v);
}

extern "C" __global__ void gelu_forward_02_vector_loads(float* y, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(value(v.x), value(v.y), value(v.z), value(v.w));
    return;
  }
  for (int j = i; j < n; j++) y[j] = value(x[j]);
}

extern "C" __global__ void gelu_vjp_02_vector_loads(float* dx, const float* dy, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i), d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dx + i) = make_float4(d.x * slope(v.x), d.y * slope(v.y), d.z * slope(v.z), d.w * slope(v.w));
    return;
  }
  for (int j = i; j < n; j++) dx[j] = dy[j] * slope(x[j]);
}
