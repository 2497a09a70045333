// For main.c.
#pragma once

#include <zircon/types.h>

// How many calls of the library this thread is in. Nothing is allocated for it when a thread first looks.
extern __thread __attribute__((tls_model("initial-exec"))) int inside;

#define ZX(call)              \
  ({                          \
    inside++;                 \
    __auto_type result = (call); \
    inside--;                 \
    result;                   \
  })

// Makes each call of the library, with good and with bad arguments, and in a process that has no more descriptors.
void every_call(void);
