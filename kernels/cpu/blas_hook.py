"""The function that OpenBLAS calls with the jobs of a product, so that they run on OpenMP's threads: see engine/pools.py.

    callback(sync, dojob, numjobs, elsize, jobdata, extra)      OpenBLAS's openblas_threads_callback
        packs its arguments and opens a parallel region of numjobs threads
    run_job(arguments)                                          once on each thread of the team
        unpacks them and calls dojob(thread, jobdata + thread * elsize, extra)

It must be machine code that takes no lock of Python's, and no C compiler may be needed, so it is LLVM's assembly.
"""

from typing import Any

from llvmlite import binding

_CODE = """
%call = type { ptr, i64, ptr, i32 }
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()

define void @run_job(ptr %p) {
  %c = load %call, ptr %p
  %dojob = extractvalue %call %c, 0
  %elsize = extractvalue %call %c, 1
  %jobdata = extractvalue %call %c, 2
  %extra = extractvalue %call %c, 3
  %thread = call i32 @omp_get_thread_num()
  %index = sext i32 %thread to i64
  %offset = mul i64 %index, %elsize
  %job = getelementptr i8, ptr %jobdata, i64 %offset
  call void %dojob(i32 %thread, ptr %job, i32 %extra)
  ret void
}

define void @callback(i32 %sync, ptr %dojob, i32 %numjobs, i64 %elsize, ptr %jobdata, i32 %extra) {
  %p = alloca %call
  %a = insertvalue %call undef, ptr %dojob, 0
  %b = insertvalue %call %a, i64 %elsize, 1
  %c = insertvalue %call %b, ptr %jobdata, 2
  %d = insertvalue %call %c, i32 %extra, 3
  store %call %d, ptr %p
  call void @GOMP_parallel(ptr @run_job, ptr %p, i32 %numjobs, i32 0)
  ret void
}
"""


def compile_hook() -> tuple[Any, int]:
    """(owner of the machine code, address of `callback`). libgomp must be loaded with its symbols global."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(_CODE)
    module.verify()
    owner = binding.create_mcjit_compiler(module, binding.Target.from_default_triple().create_target_machine())
    owner.finalize_object()
    return owner, owner.get_function_address("callback")
