// swiglu 01, vector loads: a thread takes four gates and four numbers that they let through; y = g s u, s = 1 / (1 + e^-g).
//
//     du = dy g s,   dg = dy u (s + g s (1 - s))
//
// g is clamped at 90 on the way into the slope: there s (or 1 - s) is 0, and infinity times 0 would be NaN. The last n % 4 numbers
// are read and written one by one.

__device__ float gated(float g) { return g / (1.0f + expf(-g)); }
__device__ float slope(float g) {
  const float v = g > 90.0f ? 90.0f : g < -90.0f ? -90.0f : g;
  const float s = 1.0f / (1.0f + expf(-v));
  return s * (1.0f + v * (1.0f - s));
}

extern "C" __global__ void swiglu_forward_01_vector_loads(float* y, const float* gate, const float* up, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 g = *reinterpret_cast<const float4*>(gate + i), u = *reinterpret_cast<const float4*>(up + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(gated(g.x) * u.x, gated(g.y) * u.y, gated(g.z) * u.z, gated(g.w) * u.w);
    return;
  }
  for (int j = i; j < n; j++) y[j] = gated(gate[j]) * up[j];
}

extern "C" __global__ void swiglu_vjp_01_vector_loads(float* dgate, float* dup, const float* dy, const float* gate,
                                                      const float* up, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 g = *reinterpret_cast<const float4*>(gate + i), u = *reinterpret_cast<const float4*>(up + i);
    const float4 d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dgate + i) =
        make_float4(d.x * u.x * slope(g.x), d.y * u.y * slope(g.y), d.z * u.z * slope(g.z), d.w * u.w * slope(g.w));
    *reinterpret_cast<float4*>(dup + i) = make_float4(d.x * gated(g.x), d.y * gated(g.y), d.z * gated(g.z), d.w * gated(g.w));
    return;
  }
  for (int j = i; j < n; j++) {
    dgate[j] = dy[j] * up[j] * slope(gate[j]);
    dup[j] = dy[j] * gated(gate[j]);
  }
}
