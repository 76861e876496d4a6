using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Triggers;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>CreateTrigger, GetTrigger, UpdateTrigger, DeleteTrigger, ListTriggers; and what a timer has done.</summary>
internal static class TriggerEndpoints
{
    private const int DefaultPage = 100;

    public static void Map(IEndpointRouteBuilder api, IEndpointRouteBuilder v1)
    {
        api.MapApi("POST", "/functions/{function}/triggers", CreateAsync);
        api.MapApi("GET", "/functions/{function}/triggers", ListAsync);
        api.MapApi("GET", "/functions/{function}/triggers/{trigger}", GetAsync);
        api.MapApi("PUT", "/functions/{function}/triggers/{trigger}", UpdateAsync);
        api.MapApi("DELETE", "/functions/{function}/triggers/{trigger}", DeleteAsync);
        v1.MapApi("GET", "/functions/{function}/triggers/{trigger}", GetStatusAsync);
    }

    public static ITriggersGrain Grain(ApiCall call, string function) => call.Grains.GetGrain<ITriggersGrain>($"{call.Account}/{function}");

    public static async Task<TriggerSnapshot> NeedTriggerAsync(ApiCall call, FunctionSnapshot function, string name) =>
        await call.InTimeAsync(Grain(call, function.Spec.Name).Get(function.FunctionId, name, call.Aborted)) ?? throw ApiErrors.TriggerNotFound(name);

    private static string TriggerOf(ApiCall call) => Names.CheckFunction("triggerName", call.RouteText("trigger"));

    private static async Task CreateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var function = await call.NeedFunctionAsync(call.Function);
        var spec = TriggerInput.Create(body.RootElement, qualifier => AsyncInvokeConfigEndpoints.NeedQualifier(function, qualifier));
        var answer = await call.InTimeAsync(Grain(call, function.Spec.Name).Create(function.FunctionId, spec, CancellationToken.None));
        await AnswerAsync(call, function, spec, answer);
    }

    private static async Task UpdateAsync(ApiCall call)
    {
        var name = TriggerOf(call);
        using var body = call.JsonBody();
        var function = await call.NeedFunctionAsync(call.Function);
        var now = await NeedTriggerAsync(call, function, name);
        var spec = TriggerInput.Update(body.RootElement, now.Spec, qualifier => AsyncInvokeConfigEndpoints.NeedQualifier(function, qualifier));
        var answer = await call.InTimeAsync(Grain(call, function.Spec.Name).Update(function.FunctionId, spec, CancellationToken.None));
        await AnswerAsync(call, function, spec, answer);
    }

    private static async Task AnswerAsync(ApiCall call, FunctionSnapshot function, TriggerSpec spec, TriggerAnswer answer)
    {
        var trigger = answer.Change switch
        {
            TriggerChange.Done => answer.Trigger!,
            TriggerChange.NotFound => throw ApiErrors.TriggerNotFound(spec.Name),
            TriggerChange.AlreadyExists => throw ApiErrors.TriggerAlreadyExists(spec.Name),
            TriggerChange.SecondHttp => throw new ApiException(409, "TriggerAlreadyExists", $"Qualifier '{spec.Qualifier}' has an HTTP trigger already; it can have one."),
            TriggerChange.LimitReached => throw ApiErrors.LimitExceeded("A function can have 100 triggers."),
            _ => throw ApiErrors.InvalidArgument($"triggerConfig.cronExpression: {answer.Message}, was '{Names.Shown(spec.Timer?.Expression ?? "")}'."),
        };
        await call.JsonAsync(json => Write(json, call, function, trigger));
    }

    private static async Task GetAsync(ApiCall call)
    {
        var name = TriggerOf(call);
        var function = await call.NeedFunctionAsync(call.Function);
        var trigger = await NeedTriggerAsync(call, function, name);
        await call.JsonAsync(json => Write(json, call, function, trigger));
    }

    private static async Task DeleteAsync(ApiCall call)
    {
        var name = TriggerOf(call);
        var function = await call.NeedFunctionAsync(call.Function);
        var answer = await call.InTimeAsync(Grain(call, function.Spec.Name).Delete(function.FunctionId, name, CancellationToken.None));
        if (answer.Change == TriggerChange.NotFound)
        {
            throw ApiErrors.TriggerNotFound(name);
        }

        await call.NoContentAsync();
    }

    private static async Task ListAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var (prefix, after, limit) = (call.Query.Text("prefix", 128) ?? "", call.Query.PageAfter(), call.Query.Limit(DefaultPage));
        var found = (await call.InTimeAsync(Grain(call, function.Spec.Name).List(function.FunctionId, call.Aborted)))
            .Where(trigger => trigger.Spec.Name.StartsWith(prefix, StringComparison.Ordinal) && (after is null || string.CompareOrdinal(trigger.Spec.Name, after) > 0))
            .ToList();
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("triggers");
            foreach (var trigger in found.Take(limit))
            {
                Write(json, call, function, trigger);
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, found.Count > limit ? found[limit - 1].Spec.Name : null);
            json.WriteEndObject();
        });
    }

    private static async Task GetStatusAsync(ApiCall call)
    {
        var name = TriggerOf(call);
        var function = await call.NeedFunctionAsync(call.Function);
        var trigger = await NeedTriggerAsync(call, function, name);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteString("triggerName", trigger.Spec.Name);
            json.WriteString("triggerType", TypeOf(trigger));
            if (trigger.Timer is { } timer)
            {
                json.WriteBoolean("enabled", trigger.Spec.Timer!.Enabled);
                TaskJson.WriteTime(json, "nextAt", timer.NextAt);
                TaskJson.WriteTime(json, "lastDueAt", timer.LastDueAt);
                TaskJson.WriteTime(json, "lastFiredAt", timer.LastFiredAt);
                json.WriteString("lastTaskId", timer.LastTaskId);
                json.WriteNumber("lastSkippedFirings", timer.LastSkipped);
                json.WriteNumber("caughtUpFirings", timer.CaughtUp);
                json.WriteNumber("skippedFirings", timer.Skipped);
                json.WriteString("error", timer.Error);
            }

            json.WriteEndObject();
        });
    }

    private static string TypeOf(TriggerSnapshot trigger) => trigger.Spec.Kind == TriggerKind.Http ? "http" : "timer";

    private static void Write(Utf8JsonWriter json, ApiCall call, FunctionSnapshot function, TriggerSnapshot trigger)
    {
        var spec = trigger.Spec;
        json.WriteStartObject();
        json.WriteString("triggerName", spec.Name);
        json.WriteString("triggerId", trigger.TriggerId);
        json.WriteString("triggerType", TypeOf(trigger));
        json.WriteString("triggerConfig", spec.Config);
        json.WriteString("qualifier", spec.Qualifier);
        json.WriteString("description", spec.Description);
        json.WriteString("sourceArn", spec.SourceArn);
        json.WriteString("invocationRole", spec.InvocationRole);
        json.WriteString("targetArn", $"{Arn.Function(call.Options, function.Account, function.Spec.Name)}/{spec.Qualifier}");
        json.WriteString("status", "Active");
        json.WriteString("createdTime", FunctionJson.Time(trigger.CreatedAt));
        json.WriteString("lastModifiedTime", FunctionJson.Time(trigger.ModifiedAt));
        if (spec.Kind == TriggerKind.Http)
        {
            var request = call.Http.Request;
            var origin = call.Options.PublicUrl.Length > 0 ? call.Options.PublicUrl.TrimEnd('/') : $"{request.Scheme}://{request.Host}";
            var url = $"{origin}{HttpTriggerEndpoint.BasePath(function.Account, function.Spec.Name, spec.Name)}";
            json.WriteStartObject("httpTrigger");
            json.WriteString("urlInternet", url);
            json.WriteString("urlIntranet", url);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }
}
