// dropout 01, elementwise: a thread for each number; y = x scale where the mask keeps it, scale = 1 / (1 - p), else 0.
//
// The map is linear and its own transpose, so the kernel is that of the way back too: dx from dy. What is dropped is not read into
// a product: a dropped NaN or infinity is 0.

extern "C" __global__ void dropout_01_elementwise(float* y, const float* x, const bool* mask, float scale, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = mask[i] ? x[i] * scale : 0.0f;
}
