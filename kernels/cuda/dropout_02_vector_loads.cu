// dropout 02, vector loads: a thread takes four numbers as one float4 and their masks as one uchar4.
//
// The last n % 4 numbers are read and written one by one. The mathematics is rung 01's.

extern "C" __global__ void dropout_02_vector_loads(float* y, const float* x, const bool* mask, float scale, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    const uchar4 m = *reinterpret_cast<const uchar4*>(mask + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(m.x ? v.x * scale : 0.0f, m.y ? v.y * scale : 0.0f,
                                                    m.z ? v.z * scale : 0.0f, m.w ? v.w * scale : 0.0f);
    return;
  }
  for (int j = i; j < n; j++) y[j] = mask[j] ? x[j] * scale : 0.0f;
}
