// softmax 01, thread per row: y = e^(x - m) / sum e^(x - m), m = max x, as the textbook has it; dx = y (dy - <dy, y>).
//
// One thread walks one row three times. Neighbouring threads read numbers that lie a whole row apart, so nearly every read is
// a transaction of its own. The rung to measure from. x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;  // the most negative float: below it lies only -infinity

extern "C" __global__ void softmax_forward_01_thread_per_row(float* y, const float* x, int R, int N) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  x += (size_t)row * N;
  y += (size_t)row * N;
  float m = LOWEST;
  for (int j = 0; j < N; j++) m = fmaxf(m, x[j]);
  float total = 0.0f;
  for (int j = 0; j < N; j++) total += expf(x[j] - m);
  for (int j = 0; j < N; j++) y[j] = expf(x[j] - m) / total;
}

extern "C" __global__ void softmax_vjp_01_thread_per_row(float* dx, const float* dy, const float* y, int R, int N) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  dy += (size_t)row * N;
  y += (size_t)row * N;
  dx += (size_t)row * N;
  float inner = 0.0f;
  for (int j = 0; j < N; j++) inner += dy[j] * y[j];
  for (int j = 0; j < N; j++) dx[j] = y[j] * (dy[j] - inner);
}
