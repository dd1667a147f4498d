// multiply 01, vector loads: y = x1 x2, a thread takes four numbers of each as one float4; dx1 = dy x2 and dx2 = dy x1 are products
// again, by the same kernel.
//
// The last n % 4 numbers are read and written one by one.

extern "C" __global__ void multiply_01_vector_loads(float* y, const float* x1, const float* x2, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 a = *reinterpret_cast<const float4*>(x1 + i), b = *reinterpret_cast<const float4*>(x2 + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
    return;
  }
  for (int j = i; j < n; j++) y[j] = x1[j] * x2[j];
}
