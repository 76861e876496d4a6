using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Quota;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>CreateFunction, GetFunction, UpdateFunction, DeleteFunction, ListFunctions.</summary>
internal static class FunctionEndpoints
{
    private const int DefaultPage = 100;

    /// <summary>Times that a change is decided anew because others changed the function meanwhile.</summary>
    private const int MaxConflicts = 8;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("POST", "/functions", CreateAsync);
        api.MapApi("GET", "/functions", ListAsync);
        api.MapApi("GET", "/functions/{function}", GetAsync);
        api.MapApi("PUT", "/functions/{function}", UpdateAsync);
        api.MapApi("DELETE", "/functions/{function}", DeleteAsync);
    }

    /// <summary>Reads, decides and writes, again if others wrote in between.</summary>
    /// <param name="call">The request.</param>
    /// <param name="name">Function.</param>
    /// <param name="change">Decides on what was read and writes it.</param>
    /// <returns>The function as it is afterwards.</returns>
    public static async Task<FunctionSnapshot> ChangeAsync(
        ApiCall call, string name, Func<IFunctionGrain, FunctionSnapshot, Task<FunctionChange>> change)
    {
        var grain = call.FunctionGrain(name);
        for (var round = 0; round < MaxConflicts; round++)
        {
            var now = await grain.Get(call.Aborted) ?? throw ApiErrors.FunctionNotFound(name);
            var done = await change(grain, now);
            call.FunctionChanged(name);
            switch (done)
            {
                case FunctionChange.Done:
                    return await call.NeedFunctionAsync(name);
                case FunctionChange.NotFound:
                    throw ApiErrors.FunctionNotFound(name);
            }
        }

        throw ApiErrors.ConcurrentUpdate(name);
    }

    private static async Task CreateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var spec = FunctionInput.Create(body.RootElement);
        await CheckCardTypeAsync(call, spec, null);
        if (await call.FunctionGrain(spec.Name).Create(spec, CancellationToken.None) == FunctionChange.AlreadyExists)
        {
            throw ApiErrors.FunctionAlreadyExists(spec.Name);
        }

        await AnswerAsync(call, await call.NeedFunctionAsync(spec.Name));
    }

    private static async Task GetAsync(ApiCall call)
    {
        var function = await call.NeedDefinitionAsync(call.Function, call.Qualifier);
        await AnswerAsync(call, function, await FunctionHealth.AskAsync(call, function));
    }

    private static async Task UpdateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        await AnswerAsync(call, await ChangeAsync(call, call.Function, async (grain, now) =>
        {
            var spec = FunctionInput.Update(body.RootElement, now.Spec);
            await CheckCardTypeAsync(call, spec, now.Spec);
            return await grain.Update(spec, now.Revision, CancellationToken.None);
        }));
    }

    /// <summary>Where the operator wants it so, a type that no node has is refused; one that the function has already stays.</summary>
    private static async Task CheckCardTypeAsync(ApiCall call, FunctionSpec spec, FunctionSpec? before)
    {
        if (!call.Options.StrictCardTypes || spec.Gpu is not { } gpu || gpu.Type == before?.Gpu?.Type)
        {
            return;
        }

        var types = await call.InTimeAsync(call.Grains.GetGrain<IRegionQuotaGrain>(call.Options.Region).GetCardTypes(call.Aborted));
        if (!types.Contains(gpu.Type))
        {
            throw ApiErrors.InvalidArgument($"gpuConfig.gpuType: no node has cards of type '{gpu.Type}'; there are {(types.Count == 0 ? "none" : string.Join(", ", types))}.");
        }
    }

    private static async Task DeleteAsync(ApiCall call)
    {
        var name = call.Function;
        var deleted = await call.FunctionGrain(name).Delete(CancellationToken.None);
        call.FunctionChanged(name);
        if (deleted == FunctionChange.NotFound)
        {
            throw ApiErrors.FunctionNotFound(name);
        }

        await call.NoContentAsync();
    }

    private static async Task ListAsync(ApiCall call)
    {
        var filter = FunctionFilter.Read(call.Query);
        var (functions, nextToken) = await FunctionPages.ReadAsync(
            call, call.Query.Text("prefix", 128) ?? "", call.Query.PageAfter(), call.Query.Limit(DefaultPage), filter.Fits);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("functions");
            foreach (var function in functions)
            {
                FunctionJson.WriteFunction(json, function, call.Options);
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, nextToken);
            json.WriteEndObject();
        });
    }

    private static Task AnswerAsync(ApiCall call, FunctionSnapshot function, FunctionHealth? health = null) =>
        call.JsonAsync(json => FunctionJson.WriteFunction(json, function, call.Options, health));
}

/// <summary>Filters of ListFunctions beside the prefix.</summary>
internal sealed record FunctionFilter
{
    public string? Name { get; init; }

    public string? Description { get; init; }

    public string? Runtime { get; init; }

    public string? GpuType { get; init; }

    public string? ResourceGroup { get; init; }

    public string? Version { get; init; }

    public IReadOnlyList<KeyValuePair<string, string?>> Tags { get; init; } = [];

    public static FunctionFilter Read(QueryFields query)
    {
        var version = query.Text("fcVersion");
        return version is null or "v2" or "v3"
            ? new FunctionFilter
            {
                Name = query.Text("functionName"),
                Description = query.Text("description"),
                Runtime = query.Text("runtime"),
                GpuType = query.Text("gpuType"),
                ResourceGroup = query.Text("resourceGroupId"),
                Version = version,
                Tags = TagInput.ReadFilter(query.Text("tags", 4096), "tags"),
            }
            : throw ApiErrors.InvalidArgument($"fcVersion: must be v2 or v3, was '{Names.Shown(version)}'.");
    }

    public bool Fits(FunctionSnapshot function) =>
        (Name is null || function.Spec.Name == Name)
        && (Description is null || function.Spec.Description.Contains(Description, StringComparison.OrdinalIgnoreCase))
        && (Runtime is null || function.Spec.Runtime == Runtime)
        && (GpuType is null || function.Spec.Gpu?.Type == GpuType)
        && (ResourceGroup is null || function.Spec.StoredFields.GetValueOrDefault("resourceGroupId") is { } text && JsonSerializer.Deserialize<string>(text) == ResourceGroup)
        && Version is null or "v3"
        && Tags.All(tag => function.Spec.Tags.TryGetValue(tag.Key, out var value) && (tag.Value is null || tag.Value == value));
}

/// <summary>Pages over an account's functions with a filter that the index does not know.</summary>
internal static class FunctionPages
{
    private const int ScanPage = 100;

    /// <summary>Functions looked at for one page; then it ends early, with a token to go on.</summary>
    private const int MostScanned = 2_000;

    public static async Task<(IReadOnlyList<FunctionSnapshot> Functions, string? NextToken)> ReadAsync(
        ApiCall call, string prefix, string? after, int limit, Func<FunctionSnapshot, bool> fits)
    {
        var query = call.Grains.GetGrain<IFunctionQueryGrain>(call.Account);
        var found = new List<FunctionSnapshot>();
        for (var scanned = 0; scanned < MostScanned; scanned += ScanPage)
        {
            var page = await query.List(prefix, after, ScanPage, call.Aborted);
            foreach (var function in page.Functions)
            {
                if (!fits(function))
                {
                    continue;
                }

                if (found.Count == limit)
                {
                    return (found, found[^1].Spec.Name);
                }

                found.Add(function);
            }

            if (page.NextToken is null)
            {
                return (found, null);
            }

            after = page.NextToken;
        }

        return (found, after);
    }

    /// <summary>One page over what each function has several of, by function and then by the part's name.</summary>
    /// <param name="call">The request.</param>
    /// <param name="name">Only of this function, or null.</param>
    /// <param name="limit">Most parts.</param>
    /// <param name="parts">Names of a function's parts.</param>
    public static async Task<(IReadOnlyList<(FunctionSnapshot Function, string Part)> Parts, string? NextToken)> ReadPartsAsync(
        ApiCall call, string? name, int limit, Func<FunctionSnapshot, IEnumerable<string>> parts)
    {
        var (afterFunction, afterPart) = call.Query.PageAfterPart();
        var found = new List<(FunctionSnapshot Function, string Part)>();
        var after = (string?)null;
        if (afterFunction is not null)
        {
            // Its own parts may go on where the last page ended.
            Add(await call.FunctionGrain(afterFunction).Get(call.Aborted), afterPart);
            after = afterFunction;
        }

        while (found.Count <= limit)
        {
            var (functions, next) = await ReadAsync(
                call, name ?? "", after, ScanPage, function => (name is null || function.Spec.Name == name) && parts(function).Any());
            foreach (var function in functions)
            {
                Add(function, null);
            }

            if (next is null)
            {
                break;
            }

            after = next;
        }

        return found.Count <= limit ? (found, null) : (found[..limit], $"{found[limit - 1].Function.Spec.Name}/{found[limit - 1].Part}");

        void Add(FunctionSnapshot? function, string? afterPart)
        {
            if (function is not null && (name is null || function.Spec.Name == name))
            {
                found.AddRange(parts(function)
                    .Where(part => afterPart is null || string.CompareOrdinal(part, afterPart) > 0)
                    .Order(StringComparer.Ordinal)
                    .Select(part => (function, part)));
            }
        }
    }

    public static void WriteNextToken(Utf8JsonWriter json, string? name)
    {
        if (name is not null)
        {
            json.WriteString("nextToken", PageToken.Make(name));
        }
    }
}
