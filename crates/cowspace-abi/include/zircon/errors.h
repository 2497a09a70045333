/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_ERRORS_H_
#define ZIRCON_ERRORS_H_

/* The results of calls: zx_status_t. 0 is success, all others are negative. */

/* Success. */
#define ZX_OK 0
/* The system met an error of its own. */
#define ZX_ERR_INTERNAL (-1)
/* The operation is not supported, or not for this object. */
#define ZX_ERR_NOT_SUPPORTED (-2)
/* A resource other than memory ran out: addresses, handles. */
#define ZX_ERR_NO_RESOURCES (-3)
/* Memory ran out. */
#define ZX_ERR_NO_MEMORY (-4)
/* An argument, or a combination of arguments, is invalid. */
#define ZX_ERR_INVALID_ARGS (-10)
/* A handle value that is not a handle of this process. */
#define ZX_ERR_BAD_HANDLE (-11)
/* A handle to an object of another type than the call works on. */
#define ZX_ERR_WRONG_TYPE (-12)
/* The call does not exist. */
#define ZX_ERR_BAD_SYSCALL (-13)
/* A range or number lies outside of what the object has. */
#define ZX_ERR_OUT_OF_RANGE (-14)
/* The caller's buffer is too small for the result. */
#define ZX_ERR_BUFFER_TOO_SMALL (-15)
/* The object is in a state in which the call does not work, for example destroyed. */
#define ZX_ERR_BAD_STATE (-20)
/* The deadline passed first. */
#define ZX_ERR_TIMED_OUT (-21)
/* The operation cannot be done now, but may be later. */
#define ZX_ERR_SHOULD_WAIT (-22)
/* The operation was called off. */
#define ZX_ERR_CANCELED (-23)
/* The other end is closed. */
#define ZX_ERR_PEER_CLOSED (-24)
/* What was asked for does not exist. */
#define ZX_ERR_NOT_FOUND (-25)
/* What was to be made exists already. */
#define ZX_ERR_ALREADY_EXISTS (-26)
/* The object is bound already. */
#define ZX_ERR_ALREADY_BOUND (-27)
/* The object cannot serve the call at present, or does not allow it. */
#define ZX_ERR_UNAVAILABLE (-28)
/* The handle lacks a right, or a policy forbids the call. */
#define ZX_ERR_ACCESS_DENIED (-30)
/* Input or output failed. */
#define ZX_ERR_IO (-40)
/* The device refused the operation. */
#define ZX_ERR_IO_REFUSED (-41)
/* Data does not match its checksum. */
#define ZX_ERR_IO_DATA_INTEGRITY (-42)
/* Data is lost. */
#define ZX_ERR_IO_DATA_LOSS (-43)
/* The device is not there. */
#define ZX_ERR_IO_NOT_PRESENT (-44)
/* The device gave more than was asked for. */
#define ZX_ERR_IO_OVERRUN (-45)
/* The device missed a deadline. */
#define ZX_ERR_IO_MISSED_DEADLINE (-46)
/* The device does not know the operation, or its parameters are invalid. */
#define ZX_ERR_IO_INVALID (-47)
/* A path is too long, or not well formed. */
#define ZX_ERR_BAD_PATH (-50)
/* Not a directory. */
#define ZX_ERR_NOT_DIR (-51)
/* Not a file. */
#define ZX_ERR_NOT_FILE (-52)
/* The file would become too large. */
#define ZX_ERR_FILE_BIG (-53)
/* The file system has no room. */
#define ZX_ERR_NO_SPACE (-54)
/* The directory is not empty. */
#define ZX_ERR_NOT_EMPTY (-55)
/* Not an error: a callback asks not to be called again. */
#define ZX_ERR_STOP (-60)
/* Not an error: a callback asks for the next item. */
#define ZX_ERR_NEXT (-61)
/* Not an error: the item is handed over to another worker. */
#define ZX_ERR_ASYNC (-62)
/* The protocol is not supported. */
#define ZX_ERR_PROTOCOL_NOT_SUPPORTED (-70)
/* The address cannot be reached. */
#define ZX_ERR_ADDRESS_UNREACHABLE (-71)
/* The address is in use. */
#define ZX_ERR_ADDRESS_IN_USE (-72)
/* The socket is not connected. */
#define ZX_ERR_NOT_CONNECTED (-73)
/* The other end refused the connection. */
#define ZX_ERR_CONNECTION_REFUSED (-74)
/* The connection was reset. */
#define ZX_ERR_CONNECTION_RESET (-75)
/* The connection was aborted. */
#define ZX_ERR_CONNECTION_ABORTED (-76)

#endif /* ZIRCON_ERRORS_H_ */
