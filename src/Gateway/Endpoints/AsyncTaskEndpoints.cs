using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>GetAsyncTask, ListAsyncTasks, StopAsyncTask.</summary>
internal static class AsyncTaskEndpoints
{
    private const int DefaultPage = 20;

    /// <summary>Pages with payloads and results are shorter, so that one stays far below what a message may hold.</summary>
    private const int MaxPageWithPayload = 25;

    private const long LastMillisecond = 253_402_300_799_999;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("GET", "/functions/{function}/async-tasks", ListAsync);
        api.MapApi("GET", "/functions/{function}/async-tasks/{taskId}", GetAsync);
        api.MapApi("PUT", "/functions/{function}/async-tasks/{taskId}/stop", StopAsync);
    }

    /// <summary>
    /// The task of the path. Tasks outlive their function, so the function is only asked for when there is no task;
    /// calls without task mode leave no record that anybody could see. A qualifier in the query must be the task's own.
    /// </summary>
    public static async Task<TaskSnapshot> NeedTaskAsync(ApiCall call, bool includeData)
    {
        var function = call.Function;
        var taskId = call.TaskId;
        var task = await call.InTimeAsync(() => TaskGrain(call, function, taskId).Get(includeData, call.Aborted));
        var qualifier = call.Query.Text("qualifier");
        if (task is { Recorded: true } && (qualifier is null || qualifier == task.Qualifier))
        {
            return task;
        }

        await call.NeedDefinitionAsync(function, call.Qualifier);
        throw ApiErrors.AsyncTaskNotFound(taskId);
    }

    private static async Task GetAsync(ApiCall call)
    {
        var task = await NeedTaskAsync(call, includeData: true);
        await call.JsonAsync(json => TaskJson.WriteTask(json, task, call.Options));
    }

    private static async Task StopAsync(ApiCall call)
    {
        var task = await NeedTaskAsync(call, includeData: false);

        // A task that has ended stays as it is, and the caller has what it wanted.
        if (await call.InTimeAsync(() => TaskGrain(call, task.Key.Function, task.Key.TaskId).Stop("StopAsyncTask", CancellationToken.None)) == StopOutcome.NotFound)
        {
            throw ApiErrors.AsyncTaskNotFound(task.Key.TaskId);
        }

        await call.NoContentAsync();
    }

    private static async Task ListAsync(ApiCall call)
    {
        var query = ReadQuery(call);
        var page = await ReadPageAsync(call, query);
        if (page.Tasks.Count == 0 && query.NextToken is null)
        {
            await call.NeedDefinitionAsync(query.Function, call.Qualifier);
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("tasks");
            foreach (var task in page.Tasks)
            {
                TaskJson.WriteTask(json, query.IncludePayload ? task : task with { Payload = null, Result = null }, call.Options);
            }

            json.WriteEndArray();
            if (page.NextToken is not null)
            {
                json.WriteString("nextToken", page.NextToken);
            }

            json.WriteEndObject();
        });
    }

    private static async Task<TaskPage> ReadPageAsync(ApiCall call, TaskQuery query)
    {
        try
        {
            return await call.InTimeAsync(() => call.Grains.Get<ITaskQueryGrain>(call.Account).List(query, call.Aborted));
        }
        catch (FormatException)
        {
            throw ApiErrors.InvalidArgument("nextToken: must be one that an earlier page of the same order gave.");
        }
    }

    private static TaskQuery ReadQuery(ApiCall call)
    {
        var includePayload = call.Query.Flag("includePayload") ?? false;
        var limit = call.Query.Limit(DefaultPage);
        return new TaskQuery
        {
            Function = call.Function,
            Status = ReadStatus(call.Query.Text("status")),
            Prefix = call.Query.Text("prefix", 128),
            StartedFromMs = call.Query.Integer("startedTimeBegin", 0, LastMillisecond),
            StartedToMs = call.Query.Integer("startedTimeEnd", 0, LastMillisecond),
            Qualifier = call.Query.Text("qualifier") is null ? null : call.Qualifier,
            Ascending = ReadAscending(call.Query.Text("sortOrderByTime")),
            Limit = includePayload ? Math.Min(limit, MaxPageWithPayload) : limit,
            NextToken = call.Query.Text("nextToken", 1024),
            IncludePayload = includePayload,
        };
    }

    private static GpuTaskStatus? ReadStatus(string? text)
    {
        if (text is null)
        {
            return null;
        }

        var known = Enum.GetValues<GpuTaskStatus>().Where(status => status != GpuTaskStatus.None).ToList();
        return known.FirstOrDefault(status => status.ToString() == text) is var found and not GpuTaskStatus.None
            ? found
            : throw ApiErrors.InvalidArgument($"status: must be one of {string.Join(", ", known)}, was '{Names.Shown(text)}'.");
    }

    private static bool ReadAscending(string? text) => text switch
    {
        null => false,
        _ when text.Equals("asc", StringComparison.OrdinalIgnoreCase) => true,
        _ when text.Equals("desc", StringComparison.OrdinalIgnoreCase) => false,
        _ => throw ApiErrors.InvalidArgument($"sortOrderByTime: must be asc or desc, was '{Names.Shown(text)}'."),
    };

    private static ITaskGrain TaskGrain(ApiCall call, string function, string taskId) =>
        call.Grains.Get<ITaskGrain>(new TaskKey(call.Account, function, taskId).ToString());
}
