// log_softmax 01, thread per row: y = (x - m) - log sum e^(x - m), m = max x; dx = dy - e^y sum dy.
//
// One thread walks one row three times, as in softmax 01. Here m and the logarithm are taken off one after the other: m + log
// sum would round away the digits of a small logarithm beside a large m. x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;  // the most negative float: below it lies only -infinity

extern "C" __global__ void log_softmax_forward_01_thread_per_row(float* y, const float* x, int R, int N) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  x += (size_t)row * N;
  y += (size_t)row * N;
  float m = LOWEST;
  for (int j = 0; j < N; j++) m = fmaxf(m, x[j]);
  float total = 0.0f;
  for (int j = 0; j < N; j++) total += expf(x[j] - m);
  const float log_total = logf(total);
  for (int j = 0; j < N; j++) y[j] = (x[j] - m) - log_total;
}

extern "C" __global__ void log_softmax_vjp_01_thread_per_row(float* dx, const float* dy, const float* y, int R, int N) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  dy += (size_t)row * N;
  y += (size_t)row * N;
  dx += (size_t)row * N;
  float total = 0.0f;
  for (int j = 0; j < N; j++) total += dy[j];
  for (int j = 0; j < N; j++) dx[j] = dy[j] - expf(y[j]) * total;
}
