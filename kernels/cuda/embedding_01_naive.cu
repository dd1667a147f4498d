// embedding 01, naive: a thread for each number, y_rc = weight[ids_r][c]; on the way back each looks at all ids.
//
//     dweight_vc = sum over {r : ids_r = v} of dy_rc,   0 for the padding row (-1: there is none)
//
// A sum is made by one thread in the order of the ids, so nothing is atomic; but all V C threads read all R ids.
// weight, dweight: V rows of C numbers; y, dy: R rows of C numbers; ids: R rows of weight, which the launcher has checked.

extern "C" __global__ void embedding_forward_01_naive(float* y, const float* weight, const long long* ids, int R, int C) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)R * C) return;
  y[i] = weight[(size_t)ids[i / C] * C + i % C];
}

extern "C" __global__ void embedding_vjp_01_naive(float* dweight, const float* dy, const long long* ids, int padding, int R,
                                                  int V, int C) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)V * C) return;
  const int v = i / C, c = i % C;
  float sum = 0.0f;
  for (int r = 0; r < R; r++)
    if (ids[r] == v && v != padding) sum += dy[(size_t)r * C + c];
  dweight[i] = sum;
}
