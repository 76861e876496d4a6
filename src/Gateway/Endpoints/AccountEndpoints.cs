using System.Security.Cryptography;
using System.Text.Json;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Keys;
using GpuTasks.Gateway.Validation;
using GpuTasks.Security;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>Accounts and keys, for operators. A key's secret is told once, when it is made.</summary>
internal static class AccountEndpoints
{
    private const string AccountRule = "must be 1 to 64 letters, digits, '-' or '_'";
    private const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    private const int DefaultOverlapSeconds = 86_400;

    public static void Map(IEndpointRouteBuilder v1)
    {
        v1.MapApi("GET", "/accounts", ListAsync, Access.Operator);
        v1.MapApi("POST", "/accounts", CreateAsync, Access.Operator);
        v1.MapApi("GET", "/accounts/{account}", GetAsync, Access.Operator);
        v1.MapApi("PUT", "/accounts/{account}", SetAsync, Access.Operator);
        v1.MapApi("POST", "/accounts/{account}/keys", AddKeyAsync, Access.Operator);
        v1.MapApi("PUT", "/accounts/{account}/keys/{key}", DisableKeyAsync, Access.Operator);
        v1.MapApi("POST", "/accounts/{account}/keys/{key}/rotate", RotateKeyAsync, Access.Operator);
        v1.MapApi("DELETE", "/accounts/{account}/keys/{key}", RemoveKeyAsync, Access.Operator);
    }

    private static IAccountsGrain Grain(ApiCall call) => call.Grains.GetGrain<IAccountsGrain>(AccountCache.GrainKey);

    private static AccountCache Cache(ApiCall call) => call.Http.RequestServices.GetRequiredService<AccountCache>();

    private static string AccountOf(ApiCall call) => CheckAccount("account", call.RouteText("account"));

    private static string CheckAccount(string field, string id) => id.Length is > 0 and <= 64 && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')
        ? id
        : throw ApiErrors.InvalidArgument($"{field}: {AccountRule}, was '{Names.Shown(id)}'.");

    private static string KeyOf(ApiCall call) => call.RouteText("key") is { Length: <= 128 } id && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.')
        ? id
        : throw ApiErrors.InvalidArgument("key: must be 1 to 128 letters, digits, '-', '_' or '.'.");

    private static async Task<AccountDirectory> ReadAsync(ApiCall call)
    {
        var cache = Cache(call);
        await cache.RefreshAsync(call.Aborted).WaitAsync(TimeSpan.FromSeconds(4), call.Aborted);
        return (await cache.ReadAsync(call.Aborted)).Directory;
    }

    private static async Task<AccountRecord> NeedAsync(ApiCall call, string account) =>
        (await ReadAsync(call)).Accounts.FirstOrDefault(record => record.Id == account) ?? throw ApiErrors.AccountNotFound(account);

    private static async Task ListAsync(ApiCall call)
    {
        var directory = await ReadAsync(call);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("accounts");
            foreach (var account in directory.Accounts)
            {
                Write(json, account);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    private static async Task GetAsync(ApiCall call)
    {
        var account = await NeedAsync(call, AccountOf(call));
        await call.JsonAsync(json => Write(json, account));
    }

    private static async Task CreateAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var faults = new Faults();
        var fields = new JsonFields(body.RootElement, faults);
        var id = fields.Text("accountId", 64) ?? NewDigits();
        var settings = Settings(fields, new AccountSettings());
        faults.Throw();
        CheckAccount("accountId", id);

        // Where the log of changes looks for whom a change concerns.
        call.Http.Request.RouteValues["account"] = id;
        var change = await call.InTimeAsync(Grain(call).Create(id, settings, CancellationToken.None));
        if (change == AccountChange.AlreadyExists)
        {
            throw ApiErrors.AccountAlreadyExists(id);
        }

        ThrowUnlessDone(change, id, "", "There are 1,000 accounts already.");
        await AnswerAsync(call, id);
    }

    private static async Task SetAsync(ApiCall call)
    {
        var id = AccountOf(call);
        using var body = call.JsonBody();
        var faults = new Faults();
        var fields = new JsonFields(body.RootElement, faults);

        // An account of a keys file has no record here until an operator sets something of it.
        var now = (await ReadAsync(call)).Accounts.FirstOrDefault(record => record.Id == id);
        var settings = Settings(fields, now?.Settings ?? new AccountSettings());
        faults.Throw();
        if (now is null && !call.Http.RequestServices.GetRequiredService<KeyStore>().Current.HasAccount(id))
        {
            throw ApiErrors.AccountNotFound(id);
        }

        ThrowUnlessDone(
            await call.InTimeAsync(now is null ? Grain(call).Create(id, settings, CancellationToken.None) : Grain(call).Set(id, settings, CancellationToken.None)),
            id, "", "There are 1,000 accounts already.");
        await AnswerAsync(call, id);
    }

    private static async Task AddKeyAsync(ApiCall call)
    {
        var account = AccountOf(call);
        using var body = call.JsonBody();
        var faults = new Faults();
        var kind = new JsonFields(body.RootElement, faults).Text("kind", 16, text => text is "access" or "api", "must be access or api") ?? "access";
        faults.Throw();
        await AddKeyAsync(call, account, kind == "access" ? AccountKeyKind.Access : AccountKeyKind.Api, null, default);
    }

    private static async Task RotateKeyAsync(ApiCall call)
    {
        var account = AccountOf(call);
        var id = KeyOf(call);
        var overlap = DefaultOverlapSeconds;
        if (call.Body.Length > 0)
        {
            using var body = call.JsonBody();
            var faults = new Faults();
            overlap = new JsonFields(body.RootElement, faults).Integer("overlapSeconds", 0, 2_592_000) ?? overlap;
            faults.Throw();
        }

        var key = (await NeedAsync(call, account)).Keys.FirstOrDefault(key => key.Id == id) ?? throw ApiErrors.KeyNotFound(account, id);
        var clock = call.Http.RequestServices.GetRequiredService<TimeProvider>();
        await AddKeyAsync(call, account, key.Kind, id, clock.GetUtcNow() + TimeSpan.FromSeconds(overlap));
    }

    private static async Task AddKeyAsync(ApiCall call, string account, AccountKeyKind kind, string? replaced, DateTimeOffset until)
    {
        var id = $"{(kind == AccountKeyKind.Access ? "GT" : "gk-")}{Random(22)}";
        var secret = kind == AccountKeyKind.Access ? Random(40) : $"gt_{Random(40)}";
        var key = new AccountKey
        {
            Id = id,
            Kind = kind,
            Secret = kind == AccountKeyKind.Access ? secret : null,
            Hash = kind == AccountKeyKind.Api ? KeyRing.HashText(secret) : null,
        };
        ThrowUnlessDone(
            await call.InTimeAsync(Grain(call).AddKey(account, key, replaced, until, CancellationToken.None)), account, replaced ?? "",
            $"Account '{account}' has 20 keys already; remove one first.");
        var made = (await NeedAsync(call, account)).Keys.FirstOrDefault(known => known.Id == id) ?? key;
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            WriteKeyFields(json, made);
            json.WriteString(kind == AccountKeyKind.Access ? "secret" : "apiKey", secret);
            json.WriteEndObject();
        });
    }

    private static async Task DisableKeyAsync(ApiCall call)
    {
        var (account, key) = (AccountOf(call), KeyOf(call));
        using var body = call.JsonBody();
        var faults = new Faults();
        var fields = new JsonFields(body.RootElement, faults);
        var disabled = fields.Flag("disabled");
        if (!fields.Has("disabled"))
        {
            faults.Add("disabled", "is required");
        }

        faults.Throw();
        ThrowUnlessDone(await call.InTimeAsync(Grain(call).DisableKey(account, key, disabled!.Value, CancellationToken.None)), account, key, "");
        await AnswerAsync(call, account);
    }

    private static async Task RemoveKeyAsync(ApiCall call)
    {
        var (account, key) = (AccountOf(call), KeyOf(call));
        ThrowUnlessDone(await call.InTimeAsync(Grain(call).RemoveKey(account, key, CancellationToken.None)), account, key, "");
        await Cache(call).RefreshAsync(call.Aborted);
        await call.NoContentAsync();
    }

    private static AccountSettings Settings(JsonFields fields, AccountSettings now) => new()
    {
        Name = fields.Text("name", 128) ?? now.Name,
        Disabled = fields.Flag("disabled") ?? now.Disabled,
        RequestsPerSecond = Limit(fields, "requestsPerSecond", now.RequestsPerSecond),
        RequestBurst = Limit(fields, "requestBurst", now.RequestBurst),
    };

    /// <summary>0 takes a limit away.</summary>
    private static int? Limit(JsonFields fields, string name, int? now) => fields.Has(name)
        ? fields.Integer(name, 0, 1_000_000) is > 0 and var limit ? limit : null
        : now;

    private static void ThrowUnlessDone(AccountChange change, string account, string key, string limit)
    {
        switch (change)
        {
            case AccountChange.NotFound:
                throw key.Length > 0 ? ApiErrors.KeyNotFound(account, key) : ApiErrors.AccountNotFound(account);
            case AccountChange.LimitReached:
                throw ApiErrors.LimitExceeded(limit);
            case AccountChange.AlreadyExists:
                throw ApiErrors.Unavailable();
        }
    }

    private static async Task AnswerAsync(ApiCall call, string account)
    {
        var record = await NeedAsync(call, account);
        await call.JsonAsync(json => Write(json, record));
    }

    private static void Write(Utf8JsonWriter json, AccountRecord account)
    {
        json.WriteStartObject();
        json.WriteString("accountId", account.Id);
        json.WriteString("name", account.Settings.Name);
        json.WriteBoolean("disabled", account.Settings.Disabled);
        json.WriteNumber("requestsPerSecond", account.Settings.RequestsPerSecond ?? 0);
        json.WriteNumber("requestBurst", account.Settings.RequestBurst ?? 0);
        TaskJson.WriteTime(json, "createdAt", account.CreatedAt);
        TaskJson.WriteTime(json, "modifiedAt", account.ModifiedAt);
        json.WriteStartArray("keys");
        foreach (var key in account.Keys)
        {
            json.WriteStartObject();
            WriteKeyFields(json, key);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteKeyFields(Utf8JsonWriter json, AccountKey key)
    {
        json.WriteString("keyId", key.Id);
        json.WriteString("kind", key.Kind == AccountKeyKind.Access ? "access" : "api");
        json.WriteBoolean("disabled", key.Disabled);
        TaskJson.WriteTime(json, "createdAt", key.CreatedAt);
        if (key.ExpiresAt is { } at)
        {
            TaskJson.WriteTime(json, "expiresAt", at);
        }
    }

    private static string NewDigits() => RandomNumberGenerator.GetString("0123456789", 16);

    private static string Random(int length) => RandomNumberGenerator.GetString(Alphabet, length);
}
