// A kernel that starts beside the one before it (Start::Beside of the host), where the architecture has that.
#pragma once

// Lets the next kernel start where there is room.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns once the kernel before is done and its results are seen.
__device__ __forceinline__ void wait_for_former() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
