#pragma once
#include <curl/curl.h>

// libcurl's setters and getters take one variadic argument whose type depends on the option, and Swift imports no
// variadic function. So here is one shim for each type of argument. The names stand in parentheses to get the functions
// rather than curl's type-checking macros of the same names, which want the option to be a constant.

/// For options documented as `long`; wrong widths would be read from the wrong place of the argument list.
static inline CURLcode triage_curl_set_long(CURL *handle, CURLoption option, long value) {
    return (curl_easy_setopt)(handle, option, value);
}

/// For options documented as `curl_off_t`, such as CURLOPT_POSTFIELDSIZE_LARGE.
static inline CURLcode triage_curl_set_offset(CURL *handle, CURLoption option, curl_off_t value) {
    return (curl_easy_setopt)(handle, option, value);
}

/// For options documented as `char *`; libcurl copies the text (all but CURLOPT_POSTFIELDS).
static inline CURLcode triage_curl_set_string(CURL *handle, CURLoption option, const char *value) {
    return (curl_easy_setopt)(handle, option, value);
}

/// For options documented as `void *` or as a pointer to a list, which libcurl keeps: it must outlive the handle's use.
static inline CURLcode triage_curl_set_pointer(CURL *handle, CURLoption option, const void *value) {
    return (curl_easy_setopt)(handle, option, value);
}

/// For CURLOPT_WRITEFUNCTION: function pointers are no `void *`.
static inline CURLcode triage_curl_set_write_function(CURL *handle, curl_write_callback function) {
    return (curl_easy_setopt)(handle, CURLOPT_WRITEFUNCTION, function);
}

/// For values documented as `long *`.
static inline CURLcode triage_curl_get_long(CURL *handle, CURLINFO info, long *value) {
    return (curl_easy_getinfo)(handle, info, value);
}

/// For values documented as `curl_off_t *`.
static inline CURLcode triage_curl_get_offset(CURL *handle, CURLINFO info, curl_off_t *value) {
    return (curl_easy_getinfo)(handle, info, value);
}

/// For CURLOPT_HEADERFUNCTION, whose function has the same type.
static inline CURLcode triage_curl_set_header_function(CURL *handle, curl_write_callback function) {
    return (curl_easy_setopt)(handle, CURLOPT_HEADERFUNCTION, function);
}

/// For options of a multi handle documented as `long`.
static inline CURLMcode triage_curl_multi_set_long(CURLM *handle, CURLMoption option, long value) {
    return (curl_multi_setopt)(handle, option, value);
}
