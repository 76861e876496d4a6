using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases.</summary>
internal static class AliasEndpoints
{
    private const int DefaultPage = 20;
    private const int MaxAliases = 100;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("POST", "/functions/{function}/aliases", CreateAsync);
        api.MapApi("GET", "/functions/{function}/aliases", ListAsync);
        api.MapApi("GET", "/functions/{function}/aliases/{alias}", GetAsync);
        api.MapApi("PUT", "/functions/{function}/aliases/{alias}", UpdateAsync);
        api.MapApi("DELETE", "/functions/{function}/aliases/{alias}", DeleteAsync);
    }

    private static async Task CreateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        FunctionAlias? made = null;
        var alias = "";
        var function = await FunctionEndpoints.ChangeAsync(call, call.Function, (grain, now) =>
        {
            (alias, made) = AliasInput.Create(body.RootElement, now);
            return now.Aliases.ContainsKey(alias) ? throw ApiErrors.AliasAlreadyExists(alias)
                : now.Aliases.Count >= MaxAliases ? throw ApiErrors.LimitExceeded($"A function may have {MaxAliases} aliases; delete one first.")
                : grain.SetAlias(alias, made, now.Revision, CancellationToken.None);
        });
        await AnswerAsync(call, alias, function.Aliases.GetValueOrDefault(alias) ?? made!);
    }

    private static async Task UpdateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        FunctionAlias? made = null;
        var alias = call.Alias;
        var function = await FunctionEndpoints.ChangeAsync(call, call.Function, (grain, now) =>
        {
            var before = now.Aliases.GetValueOrDefault(alias) ?? throw ApiErrors.AliasNotFound(alias);
            made = AliasInput.Update(body.RootElement, before, now);
            return grain.SetAlias(alias, made, now.Revision, CancellationToken.None);
        });
        await AnswerAsync(call, alias, function.Aliases.GetValueOrDefault(alias) ?? made!);
    }

    private static async Task GetAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        await AnswerAsync(call, call.Alias, function.Aliases.GetValueOrDefault(call.Alias) ?? throw ApiErrors.AliasNotFound(call.Alias));
    }

    private static async Task DeleteAsync(ApiCall call)
    {
        await FunctionEndpoints.ChangeAsync(call, call.Function, (grain, now) => now.Aliases.ContainsKey(call.Alias)
            ? grain.SetAlias(call.Alias, null, now.Revision, CancellationToken.None)
            : throw ApiErrors.AliasNotFound(call.Alias));
        await call.NoContentAsync();
    }

    private static async Task ListAsync(ApiCall call)
    {
        var prefix = call.Query.Text("prefix", 128) ?? "";
        var limit = call.Query.Limit(DefaultPage);
        var after = call.Query.After(Names.IsName);
        var function = await call.NeedFunctionAsync(call.Function);
        var page = function.Aliases.Keys
            .Where(name => name.StartsWith(prefix, StringComparison.Ordinal) && (after is null || string.CompareOrdinal(name, after) > 0))
            .Order(StringComparer.Ordinal)
            .Take(limit + 1).ToList();
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("aliases");
            foreach (var name in page.Take(limit))
            {
                Write(json, name, function.Aliases[name]);
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, page.Count > limit ? page[limit - 1] : null);
            json.WriteEndObject();
        });
    }

    private static Task AnswerAsync(ApiCall call, string name, FunctionAlias alias) => call.JsonAsync(json => Write(json, name, alias));

    private static void Write(Utf8JsonWriter json, string name, FunctionAlias alias)
    {
        json.WriteStartObject();
        json.WriteString("aliasName", name);
        json.WriteString("versionId", alias.VersionId);
        json.WriteString("description", alias.Description);
        json.WriteStartObject("additionalVersionWeight");
        foreach (var (version, weight) in alias.AdditionalWeights)
        {
            json.WriteNumber(version, weight);
        }

        json.WriteEndObject();
        json.WriteString("createdTime", FunctionJson.Time(alias.CreatedAt));
        json.WriteString("lastModifiedTime", FunctionJson.Time(alias.ModifiedAt));
        json.WriteEndObject();
    }
}
