// A program that knows the driver API from its own declarations alone. It opens the library that
// its first argument names, runs the module that the second one names, and prints "done".
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct context* CUcontext;
typedef struct module* CUmodule;
typedef struct function* CUfunction;
typedef struct stream* CUstream;
typedef struct event* CUevent;

static void* library;

static void* find(const char* name) {
    void* symbol = dlsym(library, name);
    if (symbol == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return symbol;
}

static void check(const char* call, CUresult got, CUresult expected) {
    if (got != expected) {
        fprintf(stderr, "%s: %d, expected %d\n", call, got, expected);
        exit(1);
    }
}

#define CALL(expected, name, types, ...) \
    check(#name, ((CUresult(*) types)find(#name))(__VA_ARGS__), expected)

static char* read_file(const char* path) {
    FILE* file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    char* text = calloc(1, 1 << 20);
    const size_t length = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    text[length] = 0;
    return text;
}

int main(int argc, char** argv) {
    if (argc != 3)
        return 2;
    library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction scale;
    CUstream stream;
    CUevent start, end;
    CUdeviceptr in, out;
    char name[64];
    CALL(0, cuInit, (unsigned), 0);
    CALL(0, cuDeviceGet, (CUdevice*, int), &device, 0);
    CALL(101, cuDeviceGet, (CUdevice*, int), &device, -1);
    CALL(0, cuDeviceGetName, (char*, int, CUdevice), name, sizeof name, device);
    CALL(0, cuCtxCreate_v2, (CUcontext*, unsigned, CUdevice), &context, 0, device);
    CALL(301, cuModuleLoad, (CUmodule*, const char*), &module, "/nonexistent.ptx");
    CALL(0, cuModuleLoad, (CUmodule*, const char*), &module, argv[2]);
    CALL(0, cuModuleUnload, (CUmodule), module);
    char* text = read_file(argv[2]);
    CALL(0, cuModuleLoadData, (CUmodule*, const void*), &module, text);
    free(text);
    CALL(0, cuModuleGetFunction, (CUfunction*, CUmodule, const char*), &scale, module, "scale");
    CALL(0, cuStreamCreate, (CUstream*, unsigned), &stream, 1);
    CALL(0, cuEventCreate, (CUevent*, unsigned), &start, 0);
    CALL(0, cuEventCreate, (CUevent*, unsigned), &end, 0);

    enum { kNum = 500 };
    float* host;
    CALL(0, cuMemHostAlloc, (void**, size_t, unsigned), (void**)&host, kNum * sizeof(float), 0);
    for (int i = 0; i < kNum; ++i)
        host[i] = (float)i;
    CALL(0, cuMemAlloc_v2, (CUdeviceptr*, size_t), &in, kNum * sizeof(float));
    CALL(0, cuMemAlloc_v2, (CUdeviceptr*, size_t), &out, kNum * sizeof(float));
    CALL(0, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void*, size_t, CUstream), in, host,
         kNum * sizeof(float), stream);
    CALL(0, cuEventRecord, (CUevent, CUstream), start, stream);
    float factor = 3;
    unsigned num = kNum;
    void* params[] = {&out, &in, &factor, &num};
    CALL(0, cuLaunchKernel,
         (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
          void**, void**),
         scale, 4, 1, 1, 128, 1, 1, 0, stream, params, NULL);
    CALL(0, cuEventRecord, (CUevent, CUstream), end, stream);
    CALL(0, cuMemcpyDtoHAsync_v2, (void*, CUdeviceptr, size_t, CUstream), host, out,
         kNum * sizeof(float), stream);
    CALL(0, cuStreamSynchronize, (CUstream), stream);
    for (int i = 0; i < kNum; ++i) {
        if (host[i] != 4.0f * (float)i) {
            fprintf(stderr, "value %d is %f\n", i, host[i]);
            return 1;
        }
    }
    float milliseconds = -1;
    CALL(0, cuEventElapsedTime, (float*, CUevent, CUevent), &milliseconds, start, end);
    if (!(milliseconds > 0))
        return 1;
    CALL(1, cuMemAlloc_v2, (CUdeviceptr*, size_t), NULL, 4);
    CALL(400, cuStreamSynchronize, (CUstream), (CUstream)0x123);
    CALL(801, cuTexRefCreate, (void*), NULL);
    CALL(0, cuMemFreeHost, (void*), host);
    CALL(0, cuMemFree_v2, (CUdeviceptr), in);
    CALL(0, cuStreamDestroy_v2, (CUstream), stream);
    CALL(0, cuCtxDestroy_v2, (CUcontext), context);
    CALL(201, cuMemFree_v2, (CUdeviceptr), out);
    printf("done on %s\n", name);
    return 0;
}
