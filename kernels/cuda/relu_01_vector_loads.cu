// relu 01, vector loads: a thread takes four numbers as one float4; y = max(x, 0), dx = 0 where y = 0, else dy.
//
// NaN goes through: a comparison with it is false. The last n % 4 numbers are read and written one by one.

__device__ float value(float x) { return x < 0.0f ? 0.0f : x; }
__device__ float gradient(float d, float y) { return y <= 0.0f ? 0.0f : d; }

extern "C" __global__ void relu_forward_01_vector_loads(float* y, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(value(v.x), value(v.y), value(v.z), value(v.w));
    return;
  }
  for (int j = i; j < n; j++) y[j] = value(x[j]);
}

extern "C" __global__ void relu_vjp_01_vector_loads(float* dx, const float* dy, const float* y, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(y + i), d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dx + i) =
        make_float4(gradient(d.x, v.x), gradient(d.y, v.y), gradient(d.z, v.z), gradient(d.w, v.w));
    return;
  }
  for (int j = i; j < n; j++) dx[j] = gradient(dy[j], y[j]);
}
