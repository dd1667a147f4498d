// silu 01, elementwise: a thread for each number; y = x s, s = 1 / (1 + e^-x), dy/dx = s (1 + x (1 - s)).
//
// x is clamped at 90 on the way into the slope: there s (or 1 - s) is 0, and infinity times 0 would be NaN.

extern "C" __global__ void silu_forward_01_elementwise(float* y, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = x[i] / (1.0f + expf(-x[i]));
}

extern "C" __global__ void silu_vjp_01_elementwise(float* dx, const float* dy, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float v = x[i] > 90.0f ? 90.0f : x[i] < -90.0f ? -90.0f : x[i];
  const float s = 1.0f / (1.0f + expf(-v));
  dx[i] = dy[i] * (s * (1.0f + v * (1.0f - s)));
}
