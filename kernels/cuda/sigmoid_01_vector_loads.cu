// sigmoid 01, vector loads: a thread takes four numbers as one float4; y = 1 / (1 + e^-x), dx = dy y (1 - y).
//
// The last n % 4 numbers are read and written one by one.

__device__ float value(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ float slope(float y) { return y * (1.0f - y); }

extern "C" __global__ void sigmoid_forward_01_vector_loads(float* y, const float* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(value(v.x), value(v.y), value(v.z), value(v.w));
    return;
  }
  for (int j = i; j < n; j++) y[j] = value(x[j]);
}

extern "C" __global__ void sigmoid_vjp_01_vector_loads(float* dx, const float* dy, const float* y, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(y + i), d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dx + i) = make_float4(d.x * slope(v.x), d.y * slope(v.y), d.z * slope(v.z), d.w * slope(v.w));
    return;
  }
  for (int j = i; j < n; j++) dx[j] = dy[j] * slope(y[j]);
}
