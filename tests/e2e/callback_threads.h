#ifndef TOKEN_BROKER_TESTS_E2E_CALLBACK_THREADS_H_
#define TOKEN_BROKER_TESTS_E2E_CALLBACK_THREADS_H_

namespace tokenbroker::e2e {

// Keeps gRPC's threads for callback calls until the process ends. To be called before the first
// of them; any number of times, on any thread.
//
// Without it they end with the last of those channels, and gRPC 1.51 aborts then and again
// (ref_counted.h, "prior > 0"): on a busy machine about once in forty times.
void KeepCallbackThreads();

}  // namespace tokenbroker::e2e

#endif  // TOKEN_BROKER_TESTS_E2E_CALLBACK_THREADS_H_
