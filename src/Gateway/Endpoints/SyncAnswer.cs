using System.Globalization;
using System.Net.Http.Headers;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// Answers of synchronous calls (contract 1.4). A function that failed is a success of the platform: status 200, told by
/// a header. Only the platform's own faults are errors.
/// </summary>
internal static class SyncAnswer
{
    private const string ErrorType = "UnhandledInvocationError";

    public static Task WriteAsync(ApiCall call, FunctionSnapshot function, string qualifier, bool tail, SyncEnd end)
    {
        var headers = call.Http.Response.Headers;
        if (end.Failure is { } failure)
        {
            RefusePlatformFault(failure.Outcome, failure.Message);
            WriteCommon(headers, function, qualifier);
            return WriteFailureAsync(call, "FunctionNotStarted", failure.Message);
        }

        var report = end.Report!;
        RefusePlatformFault(report.Outcome, report.Message);
        WriteCommon(headers, function, qualifier);
        headers["X-Fc-Instance-Id"] = report.InstanceId;
        headers["X-Fc-Invocation-Duration"] = ((long)report.Duration.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
        if (report.MaxMemoryMiB > 0)
        {
            headers["X-Fc-Max-Memory-Usage"] = report.MaxMemoryMiB.ToString("0.00", CultureInfo.InvariantCulture);
        }

        if (tail)
        {
            headers["X-Fc-Log-Result"] = Convert.ToBase64String(report.LogTail);
        }

        if (report.ResponseTruncated)
        {
            return WriteFailureAsync(call, "ResponseTooLarge", $"The function's answer is longer than the {report.Response.Length} bytes that can be passed on.");
        }

        if (report.Outcome == RunOutcome.Succeeded)
        {
            return WriteBytesAsync(call, report);
        }

        if (report.Response.Length == 0)
        {
            return WriteFailureAsync(call, report.Outcome.ToString(), report.Message);
        }

        headers["X-Fc-Error-Type"] = ErrorType;
        return WriteBytesAsync(call, report);
    }

    private static void RefusePlatformFault(RunOutcome outcome, string message)
    {
        if (outcome is RunOutcome.NodeLost or RunOutcome.EngineError or RunOutcome.GpuFault or RunOutcome.Preempted)
        {
            throw ApiErrors.PlatformFault($"{outcome}{(message.Length > 0 ? $": {message}" : "")}");
        }
    }

    private static void WriteCommon(IHeaderDictionary headers, FunctionSnapshot function, string qualifier)
    {
        headers["X-Fc-Code-Checksum"] = FunctionJson.Checksum(function);
        headers["X-Fc-Invocation-Service-Version"] = qualifier;
    }

    private static Task WriteFailureAsync(ApiCall call, string type, string message)
    {
        call.Http.Response.Headers["X-Fc-Error-Type"] = ErrorType;
        return call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteString("errorMessage", message);
            json.WriteString("errorType", type);
            json.WriteString("requestId", call.RequestId);
            json.WriteEndObject();
        });
    }

    private static async Task WriteBytesAsync(ApiCall call, RunReport report)
    {
        // The function's word is not trusted: a header that does not parse would break the answer.
        call.Http.Response.ContentType = MediaTypeHeaderValue.TryParse(report.ContentType, out var type) ? type.ToString() : "application/octet-stream";
        call.Http.Response.ContentLength = report.Response.Length;
        await call.Http.Response.Body.WriteAsync(report.Response, call.Aborted);
    }
}
