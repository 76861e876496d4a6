using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>InvokeFunction, asynchronous and synchronous (contract 1.4).</summary>
internal static class InvocationEndpoints
{
    public const string TypeHeader = "x-fc-invocation-type";
    public const string TaskIdHeader = "x-fc-async-task-id";
    public const string LogTypeHeader = "x-fc-log-type";

    public static void Map(IEndpointRouteBuilder api) => api.MapApi("POST", "/functions/{function}/invocations", InvokeAsync, limit: BodyLimit, audited: false);

    private static int BodyLimit(HttpContext http, GatewayOptions options) =>
        IsAsync(http.Request) ? options.MaxAsyncPayloadBytes : options.MaxSyncPayloadBytes;

    private static Task InvokeAsync(ApiCall call) => IsAsync(call.Http.Request) ? SubmitAsync(call) : CallAsync(call);

    private static Task SubmitAsync(ApiCall call) => SubmitAsync(call, call.Function, call.Qualifier, http: null);

    /// <summary>Submits the call's body as a task: as an event, or as the body of a request to hand on.</summary>
    public static async Task SubmitAsync(ApiCall call, string name, string qualifier, HttpCall? http)
    {
        var given = call.Http.Request.Headers[TaskIdHeader].ToString();
        if (given.Length > 0)
        {
            Names.CheckTaskId(TaskIdHeader, given);
        }

        var (function, version) = await call.NeedRecentVersionAsync(name, qualifier);
        var config = function.AsyncConfigs.GetValueOrDefault(qualifier) ?? new AsyncInvokeConfig();
        if (given.Length > 0 && !config.TaskMode)
        {
            // It may just have been switched on through another gateway.
            function = await call.NeedFunctionAsync(name);
            config = function.AsyncConfigs.GetValueOrDefault(qualifier) ?? new AsyncInvokeConfig();
        }

        if (given.Length > 0 && !config.TaskMode)
        {
            throw ApiErrors.InvalidArgument(
                $"{TaskIdHeader}: needs task mode, which is off for function '{name}'; put its async invoke config with asyncTask true, or leave the id out.");
        }

        var taskId = given.Length > 0 ? given : call.RequestId;
        var submission = new TaskSubmission
        {
            RequestId = call.RequestId,
            Qualifier = qualifier,
            Version = version,
            Payload = call.Body,
            Recorded = config.TaskMode,
            MaxRetryAttempts = config.MaxRetryAttempts,
            MaxEventAge = TimeSpan.FromSeconds(config.MaxEventAgeSeconds),
            OnSuccess = config.OnSuccess,
            OnFailure = config.OnFailure,
            Http = http,
        };

        // Not given up when the caller goes away: whether it was accepted must not depend on that.
        var tasks = call.Grains.Get<ITaskBatchGrain>($"{call.Account}/{name}");
        var outcomes = await call.InTimeAsync(() => tasks.Submit(new TaskBatch([new NewTask(taskId, submission)]), CancellationToken.None));
        switch (outcomes[0])
        {
            case BatchOutcome.AlreadyExists:
                throw ApiErrors.TaskAlreadyExists(taskId);
            case BatchOutcome.Unavailable:
                throw ApiErrors.Unavailable();
        }

        call.Http.Response.Headers["X-Fc-Async-Task-Id"] = taskId;
        call.Http.Response.StatusCode = StatusCodes.Status202Accepted;
    }

    private static async Task CallAsync(ApiCall call)
    {
        var logType = call.Http.Request.Headers[LogTypeHeader].ToString();
        var tail = logType.Equals("Tail", StringComparison.OrdinalIgnoreCase);
        if (!tail && logType.Length > 0 && !logType.Equals("None", StringComparison.OrdinalIgnoreCase))
        {
            throw ApiErrors.InvalidArgument($"{LogTypeHeader}: must be None or Tail, was '{Names.Shown(logType)}'.");
        }

        var qualifier = call.Qualifier;
        var function = await call.NeedCallableAsync(call.Function, qualifier);
        await SyncAnswer.WriteAsync(call, function, qualifier, tail, await new SyncCall(call, function, qualifier).RunAsync());
    }

    private static bool IsAsync(HttpRequest request)
    {
        var type = request.Headers[TypeHeader].ToString();
        return type.Equals("Async", StringComparison.OrdinalIgnoreCase) ? true
            : type.Length == 0 || type.Equals("Sync", StringComparison.OrdinalIgnoreCase) ? false
            : throw ApiErrors.InvalidArgument($"{TypeHeader}: must be Sync or Async, was '{Names.Shown(type)}'.");
    }
}
