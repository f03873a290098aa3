#ifndef TOKEN_BROKER_COMMON_STATUS_MACROS_H_
#define TOKEN_BROKER_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expression` is not OK.
#define TB_RETURN_IF_ERROR(expression)                            \
  do {                                                            \
    if (absl::Status tb_status = (expression); !tb_status.ok()) { \
      return tb_status;                                           \
    }                                                             \
  } while (false)

#define TB_CONCAT_INNER_(a, b) a##b
#define TB_CONCAT_(a, b) TB_CONCAT_INNER_(a, b)

// TB_ASSIGN_OR_RETURN(const Record record, store.Load(key));
#define TB_ASSIGN_OR_RETURN(declaration, expression) \
  TB_ASSIGN_OR_RETURN_(TB_CONCAT_(tb_result_, __LINE__), declaration, expression)
#define TB_ASSIGN_OR_RETURN_(result, declaration, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return std::move(result).status();        \
  declaration = *std::move(result)

#endif  // TOKEN_BROKER_COMMON_STATUS_MACROS_H_
