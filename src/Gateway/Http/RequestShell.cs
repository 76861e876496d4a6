using System.Globalization;
using GpuTasks.Nodes;
using GpuTasks.Store;
using Orleans.Serialization;

namespace GpuTasks.Gateway.Http;

/// <summary>
/// Around every request: gives it an id, and makes sure that whatever goes wrong inside is answered as JSON of the
/// contract, since clients lose status and code of any other error.
/// </summary>
internal sealed partial class RequestShell(RequestDelegate next, ILogger<RequestShell> logger)
{
    public const string RequestIdHeader = "X-Fc-Request-Id";

    /// <summary>Item of a request whose errors carry <c>X-Fc-Error-Type</c>: its value.</summary>
    public const string ErrorTypeItem = "X-Fc-Error-Type";

    private static readonly string[] OutageNamespaces = ["Npgsql.", "Microsoft.Data.Sqlite.", "Polly.Timeout."];

    /// <summary>Id of the request, as answered in <c>X-Fc-Request-Id</c>.</summary>
    public static string RequestIdOf(HttpContext http) => (string)http.Items[RequestIdHeader]!;

    /// <summary>It may serve as a task id, which starts with a letter; the time inside keeps rows of the store together.</summary>
    public static string NewRequestId() => $"r{Guid.CreateVersion7():N}";

    public async Task InvokeAsync(HttpContext http)
    {
        var requestId = NewRequestId();
        http.Items[RequestIdHeader] = requestId;
        http.Response.Headers[RequestIdHeader] = requestId;
        http.Response.Headers.XContentTypeOptions = "nosniff";
        try
        {
            await next(http);
            if (http.Response is { HasStarted: false, StatusCode: >= 400, ContentType: null } && http.Response.ContentLength is null or 0)
            {
                await WriteAsync(http, Unexplained(http));
            }
        }
        catch (Exception e)
        {
            await AnswerAsync(http, requestId, e);
        }
    }

    /// <summary>Writes an error. Headers that were set for an answer that did not come are dropped.</summary>
    public static async Task WriteAsync(HttpContext http, ApiException error)
    {
        var requestId = RequestIdOf(http);
        var (challenge, allow) = (http.Response.Headers.WWWAuthenticate, http.Response.Headers.Allow);
        http.Response.Clear();
        http.Response.Headers[RequestIdHeader] = requestId;
        http.Response.Headers.XContentTypeOptions = "nosniff";
        http.Response.Headers.WWWAuthenticate = challenge;
        http.Response.Headers.Allow = allow;
        if (http.Items[ErrorTypeItem] is string type)
        {
            http.Response.Headers[ErrorTypeItem] = error.Status == 502 ? error.Code : type;
        }

        if (error.RetryAfterSeconds is { } seconds)
        {
            http.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
            http.Response.Headers["x-acs-retry-after"] = (seconds * 1000).ToString(CultureInfo.InvariantCulture);
        }

        await JsonAnswer.WriteAsync(http, error.Status, writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("Code", error.Code);
            writer.WriteString("Message", error.Message);
            writer.WriteString("RequestId", requestId);
            writer.WriteEndObject();
        });
    }

    private async Task AnswerAsync(HttpContext http, string requestId, Exception e)
    {
        if (http.RequestAborted.IsCancellationRequested)
        {
            LogClientGone(requestId, http.Request.Method, http.Request.Path);
            if (!http.Response.HasStarted)
            {
                http.Response.StatusCode = ApiErrors.ClientClosedRequest().Status;
            }

            return;
        }

        var error = Translate(e);
        if (error.Status == 500)
        {
            LogFailed(e, requestId, http.Request.Method, http.Request.Path);
        }
        else if (error.Status == 503)
        {
            LogUnavailable(e, requestId, http.Request.Method, http.Request.Path);
        }

        if (http.Response.HasStarted)
        {
            // Half an answer must not look like a whole one.
            http.Abort();
            return;
        }

        await WriteAsync(http, error);
    }

    /// <summary>The contract's error for whatever went wrong inside.</summary>
    public static ApiException Translate(Exception e) => e switch
    {
        ApiException error => error,
        BadHttpRequestException bad => Malformed(bad.StatusCode, bad.Message),
        OrleansException or StoreUnavailableException or TimeoutException or NodeUnavailableException => ApiErrors.Unavailable(),
        _ when IsOutage(TypeName(e)) => ApiErrors.Unavailable(),

        // The platform gave the call up, not the caller: a silo or this process is going down.
        OperationCanceledException => ApiErrors.Unavailable(),
        _ => ApiErrors.Internal(),
    };

    /// <summary>Exceptions of the database drivers, and of a placement that took too long while silos came and went.</summary>
    private static bool IsOutage(string type) => OutageNamespaces.Any(prefix => type.StartsWith(prefix, StringComparison.Ordinal));

    /// <summary>The name of the type that was thrown in the silo, which this process may not have.</summary>
    private static string TypeName(Exception e) => (e as UnavailableExceptionFallbackException)?.ExceptionType ?? e.GetType().FullName ?? "";

    /// <summary>An answer that some part gave without saying why, such as 405 of the router.</summary>
    private static ApiException Unexplained(HttpContext http) => http.Response.StatusCode switch
    {
        404 or 405 => ApiErrors.PathNotSupported(http.Request.Method, http.Request.Path),
        401 or 403 => new ApiException(http.Response.StatusCode, "AccessDenied", "This needs a key that it was not called with."),
        >= 500 => ApiErrors.Internal(),
        var status => Malformed(status, "The request is malformed."),
    };

    private static ApiException Malformed(int status, string message) => status == StatusCodes.Status413PayloadTooLarge
        ? new ApiException(400, "EntityTooLarge", message)
        : ApiErrors.InvalidArgument(message);

    [LoggerMessage(Level = LogLevel.Error, Message = "Request {RequestId} failed: {Method} {Path}")]
    private partial void LogFailed(Exception e, string requestId, string method, PathString path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Request {RequestId} could not be served: {Method} {Path}")]
    private partial void LogUnavailable(Exception e, string requestId, string method, PathString path);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Request {RequestId} was given up by its caller: {Method} {Path}")]
    private partial void LogClientGone(string requestId, string method, PathString path);
}
