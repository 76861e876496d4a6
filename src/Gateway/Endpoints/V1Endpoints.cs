using System.Globalization;
using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Gateway.Http;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>What the contract does not have: full task records, logs, counts, state of queues, quota, nodes.</summary>
internal static class V1Endpoints
{
    private const int DefaultLogBytes = 65_536;
    private const int MaxLogBytes = 1_048_576;

    /// <summary>Nodes asked for the log of an attempt that did not run where the latest one did.</summary>
    private const int MaxNodesAsked = 64;

    public static void Map(IEndpointRouteBuilder v1)
    {
        v1.MapApi("GET", "/functions/{function}/tasks/{taskId}", GetTaskAsync);
        v1.MapApi("GET", "/functions/{function}/tasks/{taskId}/logs", GetLogAsync);
        v1.MapApi("GET", "/functions/{function}/tasks/{taskId}/result", GetResultAsync);
        v1.MapApi("GET", "/functions/{function}/counts", GetCountsAsync);
        v1.MapApi("GET", "/functions/{function}/status", GetStatusAsync);
        v1.MapApi("GET", "/quota", GetQuotaAsync, Access.AccountOrOperator);
    }

    private static async Task GetTaskAsync(ApiCall call)
    {
        var task = await AsyncTaskEndpoints.NeedTaskAsync(call, includeData: true);
        var wait = task.Status is GpuTaskStatus.Enqueued or GpuTaskStatus.Retrying ? await TaskWait.ReadAsync(call, task) : null;
        await call.JsonAsync(json => TaskJson.WriteFull(json, task, wait));
    }

    /// <summary>The answer as the function gave it, also what is too long for the task's record.</summary>
    private static async Task GetResultAsync(ApiCall call)
    {
        var task = await AsyncTaskEndpoints.NeedTaskAsync(call, includeData: false);
        var grain = call.Grains.GetGrain<ITaskGrain>(task.Key.ToString());
        var result = await call.InTimeAsync(grain.GetResult(call.Aborted)) ?? throw ApiErrors.ResultNotFound(task.Key.TaskId);
        var response = call.Http.Response;
        response.Headers["X-Truncated"] = result.Truncated ? "true" : "false";
        response.ContentType = "application/octet-stream";
        response.ContentLength = result.Data.Length;
        await response.Body.WriteAsync(result.Data, call.Aborted);
    }

    private static async Task GetLogAsync(ApiCall call)
    {
        var cursor = call.Query.Integer("cursor", 0, long.MaxValue) ?? 0;
        var limit = (int)(call.Query.Integer("limit", 1, MaxLogBytes) ?? DefaultLogBytes);
        var asked = call.Query.Integer("attempt", 1, int.MaxValue);
        var task = await AsyncTaskEndpoints.NeedTaskAsync(call, includeData: false);
        if (asked > task.Attempt)
        {
            throw ApiErrors.InvalidArgument($"attempt: must be at most {task.Attempt}, the latest one, was {asked}.");
        }

        // Nothing was printed before the first attempt, and nothing will be if there never is one.
        var attempt = (int)(asked ?? task.Attempt);
        var chunk = attempt == 0
            ? new LogChunk([], 0, 0, task.Status.IsFinal())
            : await ReadLogAsync(call, task, attempt, cursor, limit) ?? throw ApiErrors.LogNotFound(task.Key.TaskId, attempt);
        var response = call.Http.Response;
        response.Headers["X-Attempt"] = attempt.ToString(CultureInfo.InvariantCulture);
        response.Headers["X-Next-Cursor"] = chunk.NextCursor.ToString(CultureInfo.InvariantCulture);
        response.Headers["X-Dropped-Bytes"] = chunk.DroppedBytes.ToString(CultureInfo.InvariantCulture);
        response.Headers["X-Complete"] = chunk.Complete ? "true" : "false";
        response.ContentType = "application/octet-stream";
        response.ContentLength = chunk.Data.Length;
        await response.Body.WriteAsync(chunk.Data, call.Aborted);
    }

    /// <summary>A log lies where its attempt ran; a task only remembers where its latest one did.</summary>
    private static async Task<LogChunk?> ReadLogAsync(ApiCall call, TaskSnapshot task, int attempt, long cursor, int limit)
    {
        if (task.Node.Length > 0 && await Ask(task.Node) is { } chunk)
        {
            return chunk;
        }

        if (attempt == task.Attempt)
        {
            return null;
        }

        var nodes = await Region(call).GetNodes(call.Aborted);
        foreach (var node in nodes.Where(node => node.Reachable && node.Report.Node != task.Node).Take(MaxNodesAsked))
        {
            try
            {
                if (await Ask(node.Report.Node) is { } found)
                {
                    return found;
                }
            }
            catch (NodeUnavailableException)
            {
                // Another one may have it.
            }
        }

        return null;

        Task<LogChunk?> Ask(string node) => call.Grains.GetGrain<INodeGrain>(node).ReadLog(task.Key, attempt, cursor, limit, call.Aborted);
    }

    private static async Task GetCountsAsync(ApiCall call)
    {
        var name = call.Function;
        var counts = (await call.InTimeAsync(() => call.Grains.GetGrain<ITaskQueryGrain>(call.Account).Count(name, call.Aborted))).ByStatus;
        if (counts.Values.Sum() == 0)
        {
            await call.NeedFunctionAsync(name);
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteNumber("waiting", Sum(status => !status.IsFinal() && !status.HoldsSlot()));
            json.WriteNumber("running", Sum(status => status.HoldsSlot()));
            json.WriteNumber("done", Sum(status => status.IsFinal()));
            json.WriteStartObject("byStatus");
            foreach (var status in Enum.GetValues<GpuTaskStatus>().Where(status => status is not (GpuTaskStatus.None or GpuTaskStatus.Dequeued)))
            {
                json.WriteNumber(status.ToString(), counts.GetValueOrDefault(status));
            }

            json.WriteEndObject();
            json.WriteEndObject();
        });

        long Sum(Func<GpuTaskStatus, bool> which) => counts.Where(count => which(count.Key)).Sum(count => count.Value);
    }

    private static async Task GetStatusAsync(ApiCall call)
    {
        var function = await call.NeedDefinitionAsync(call.Function, call.Qualifier);
        var status = await call.Grains.GetGrain<IDispatcherGrain>(function.Definition.ToString()).GetStatus(call.Aborted);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteString("function", function.Spec.Name);
            json.WriteNumber("windowLength", status.WindowLength);
            json.WriteString("waitReason", status.WaitReason);
            WriteFailure(json, "lastFailure", status.LastFailure);
            json.WriteStartArray("instances");
            foreach (var instance in status.Instances)
            {
                json.WriteStartObject();
                json.WriteString("instanceId", instance.InstanceId);
                json.WriteString("node", instance.Node);
                json.WriteString("state", instance.State.ToString());
                json.WriteNumber("revision", instance.Revision);
                json.WriteNumber("runs", instance.Runs.Count);
                TaskJson.WriteTime(json, "createdAt", instance.CreatedAt);
                WriteFailure(json, "failure", instance.Failure);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    private static async Task GetQuotaAsync(ApiCall call)
    {
        var account = call.IsOperator
            ? call.Query.Text("account", 64) ?? throw ApiErrors.InvalidArgument("account: is required with the operator key.")
            : call.Account;
        var quota = await Region(call).GetQuota(account, call.Aborted);
        await call.JsonAsync(json => OperatorEndpoints.WriteQuota(json, quota, call.Options));
    }

    private static void WriteFailure(Utf8JsonWriter json, string name, LaunchFailure? failure)
    {
        if (failure is null)
        {
            json.WriteNull(name);
            return;
        }

        json.WriteStartObject(name);
        json.WriteString("outcome", failure.Outcome.ToString());
        json.WriteString("message", failure.Message);
        json.WriteEndObject();
    }

    private static IRegionQuotaGrain Region(ApiCall call) => call.Grains.GetGrain<IRegionQuotaGrain>(call.Options.Region);
}
