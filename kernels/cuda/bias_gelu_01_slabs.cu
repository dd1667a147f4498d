// bias_gelu 01, slabs: y = gelu(x + bias), gelu in its tanh form; on the way back one visit gives dx and the sums for dbias.
//
//     a = x + bias,   y = a s,   s = 1 / (1 + e^(-2u)),   2u = 2 sqrt(2/pi) (a + 0.044715 a^3)
//     dx = dy (s + a s (1 - s) 2u'),   dbias_j = sum_i dx_ij
//
// A block of 32 x 8 threads takes 32 columns of a slab of 64 rows: each of its 8 rows of threads writes every eighth row of dx and
// adds it up, shared memory adds the 8 sums, and one row of `parts` (slabs, C) takes the result. A second kernel adds the slabs in
// their order: no atomics, the same bits at each run. x, y, dy, dx: R rows of C numbers. a is clamped at 30 before it is cubed,
// where s is 0 or 1 to the last bit.

constexpr float SLOPE = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float CUBIC = 0.044715f;
constexpr int SLAB = 64, COLUMNS = 32, DOWN = 8;

__device__ float clamped(float a) { return a > 30.0f ? 30.0f : a < -30.0f ? -30.0f : a; }
__device__ float gate(float v) { return 1.0f / (1.0f + expf(-SLOPE * (v + CUBIC * v * v * v))); }

extern "C" __global__ void bias_gelu_forward_01_slabs(float* y, const float* x, const float* bias, int R, int C) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)R * C) return;
  const float a = x[i] + bias[i % C];
  y[i] = a * gate(clamped(a));
}

extern "C" __global__ void __launch_bounds__(COLUMNS* DOWN)
    bias_gelu_vjp_01_slabs(float* dx, float* parts, const float* dy, const float* x, const float* bias, int R, int C) {
  __shared__ float sums[DOWN][COLUMNS];
  const int j = blockIdx.x * COLUMNS + threadIdx.x, y = threadIdx.y;
  const int first = blockIdx.y * SLAB, last = min(R, first + SLAB);
  float sum = 0.0f;
  if (j < C)
    for (int i = first + y; i < last; i += DOWN) {
      const float v = clamped(x[(size_t)i * C + j] + bias[j]), s = gate(v);
      const float d = dy[(size_t)i * C + j] * (s + v * s * (1.0f - s) * SLOPE * (1.0f + 3.0f * CUBIC * v * v));
      dx[(size_t)i * C + j] = d;
      sum += d;
    }
  sums[y][threadIdx.x] = sum;
  __syncthreads();  // the sums of all 8 rows of threads are there
  if (y > 0 || j >= C) return;
  for (int k = 1; k < DOWN; k++) sum += sums[k][threadIdx.x];
  parts[(size_t)blockIdx.y * C + j] = sum;
}

extern "C" __global__ void bias_gelu_vjp_01_add_slabs(float* dbias, const float* parts, int slabs, int C) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= C) return;
  float sum = 0.0f;
  for (int s = 0; s < slabs; s++) sum += parts[(size_t)s * C + j];
  dbias[j] = sum;
}
